/** What the key has used of what it may, and what is stored. */
import { Group, Progress, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { limits } from '../api/limits';
import { asProblem } from '../api/problem';
import { usage, type Usage } from '../api/stories';
import { ProblemNote, Section } from '../components/bits';
import { sizeOf, timeOf } from '../lib/amounts';
import { leftOf, nearness, percentOf, picturesLeft, type Limit } from '../lib/limits';
import { useStore } from '../lib/store';

/** Nothing where the service does not tell what is used. */
export function Quota() {
  const { t } = useTranslation();
  const query = useQuery({ queryKey: ['usage'], queryFn: ({ signal }) => usage(signal) });
  if (query.error && asProblem(query.error).status !== 404) {
    return <ProblemNote error={query.error} onRetry={() => void query.refetch()} />;
  }
  if (!query.data) return null;
  return (
    <Section title={t('quota.title')}>
      <Stack gap="md">
        <Drawn usage={query.data} />
        <Stored usage={query.data} />
      </Stack>
    </Section>
  );
}

/** The days of the service are those of UTC. */
function Drawn({ usage: { data } }: { usage: Usage }) {
  const { t, i18n } = useTranslation();
  const { drawing, requests } = useStore(limits);
  const now = useNow();
  const date = new Date(now).toISOString().slice(0, 10);
  const today = data.find((day) => day.date === date) ?? { images: 0, pixel_steps: 0, requests: 0 };
  const more = drawing && picturesLeft(leftOf(drawing, now), today);
  return (
    <>
      <Row name={t('quota.drawnToday')}>{today.images.toLocaleString(i18n.language)}</Row>
      {drawing && (
        <Meter name={t('quota.drawing')} limit={drawing} now={now}>
          {more !== null && t('quota.pictures', { count: more, number: more.toLocaleString(i18n.language) })}{' '}
          {t('quota.anew', { time: timeOf(drawing.resets, i18n.language) })}
        </Meter>
      )}
      {requests && (
        <Meter name={t('quota.requests')} limit={requests} now={now}>
          {t('quota.of', {
            used: (requests.limit - leftOf(requests, now)).toLocaleString(i18n.language),
            limit: requests.limit.toLocaleString(i18n.language),
          })}
        </Meter>
      )}
    </>
  );
}

function Stored({ usage: { storage, limits: most } }: { usage: Usage }) {
  const { t, i18n } = useTranslation();
  const of = (used: number, limit: number): string =>
    t('quota.usedOf', { used: used.toLocaleString(i18n.language), limit: limit.toLocaleString(i18n.language) });
  return (
    <>
      <Row name={t('quota.characters')}>{of(storage.characters, most.characters)}</Row>
      <Row name={t('quota.pictures')}>{of(storage.pictures, most.pictures)}</Row>
      <Row name={t('quota.stories')}>{of(storage.stories, most.stories)}</Row>
      <Row name={t('quota.kept')}>
        {(storage.takes + storage.generations).toLocaleString(i18n.language)} ·{' '}
        {t('quota.usedOf', { used: sizeOf(storage.bytes, i18n.language), limit: sizeOf(most.bytes, i18n.language) })}
      </Row>
    </>
  );
}

function Row({ name, children }: { name: string; children: ReactNode }) {
  return (
    <Group justify="space-between" gap="xs">
      <Text size="sm">{name}</Text>
      <Text size="sm" c="dimmed">
        {children}
      </Text>
    </Group>
  );
}

interface MeterProps {
  name: string;
  limit: Limit;
  now: number;
  children: ReactNode;
}

/** How much of a limit is used, as a bar and in per cent. */
function Meter({ name, limit, now, children }: MeterProps) {
  const { t } = useTranslation();
  const percent = percentOf(limit.limit - leftOf(limit, now), limit.limit);
  return (
    <Stack gap={6}>
      <Row name={name}>{t('quota.used', { percent })}</Row>
      <Progress value={percent} aria-label={name} color={nearness(limit, now) ? 'orange.8' : 'accent'} />
      <Text size="sm" c="dimmed">
        {children}
      </Text>
    </Stack>
  );
}

const TICK_MS = 5000;

/** Milliseconds since 1970, now and then. */
function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}
