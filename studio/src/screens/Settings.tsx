/** The key, the language, the appearance, and what is left of the quota. */
import { Button, Group, Paper, PasswordInput, Progress, SegmentedControl, Stack, Text, Title, useMantineColorScheme } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState, type FormEvent, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { keyRefused, keyStore, setKey } from '../api/key';
import { forgetPictures } from '../api/pictures';
import { asProblem } from '../api/problem';
import { modelsQuery } from '../api/queries';
import { usage } from '../api/stories';
import { ProblemNote, ScreenTitle } from '../components/bits';
import { LANGUAGES, speak, type Language } from '../i18n';
import { en } from '../i18n/en';
import { shareOf, sizeOf } from '../lib/amounts';
import { useStore } from '../lib/store';
import { toast } from '../lib/toasts';

export default function Settings() {
  const { t, i18n } = useTranslation();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const models = useQuery(modelsQuery);
  return (
    <>
      <ScreenTitle>{t('settings.title')}</ScreenTitle>
      <Stack gap="md" maw={640}>
        <Section title={t('settings.key')}>
          <KeyForm needless={models.isSuccess} />
        </Section>
        <Section title={t('settings.language')}>
          <SegmentedControl
            aria-label={t('settings.language')}
            value={i18n.language}
            onChange={(value) => void speak(value as Language)}
            data={LANGUAGES.map((value) => ({ value, label: t(`language.${value}`) }))}
          />
        </Section>
        <Section title={t('settings.appearance')}>
          <SegmentedControl
            aria-label={t('settings.appearance')}
            value={colorScheme}
            onChange={(value) => setColorScheme(value)}
            data={(['light', 'dark', 'auto'] as const).map((value) => ({ value, label: t(`settings.${value}`) }))}
          />
        </Section>
        <Quota />
        {models.data && (
          <Section title={t('settings.model')}>
            {models.data.data.map((model) => (
              <Text key={model.id} size="sm">
                {model.id}{' '}
                <Text span c="dimmed">
                  {t('settings.version', { version: model.version })}
                </Text>
              </Text>
            ))}
          </Section>
        )}
      </Stack>
    </>
  );
}

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Paper withBorder radius="lg" p="lg" component="section" aria-label={title}>
      <Title order={2} size="h3" mb="sm">
        {title}
      </Title>
      {children}
    </Paper>
  );
}

function KeyForm({ needless }: { needless: boolean }) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const key = useStore(keyStore);
  const refused = useStore(keyRefused);
  const [text, setText] = useState('');
  const [shape, setShape] = useState(false);
  const take = (next: string): void => {
    setKey(next);
    setText('');
    forgetPictures();
    void cache.resetQueries();
  };
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setShape(!text.trim().startsWith('rc-'));
    if (text.trim().startsWith('rc-')) take(text);
  };
  const error = shape ? t('keyGate.shape') : refused === 'unknown' ? t('keyGate.unknown') : undefined;
  return (
    <form onSubmit={submit}>
      <Stack gap="sm">
        <Text size="sm" c="dimmed">
          {key ? t('settings.keyUsed') : needless ? t('settings.keyNone') : ''} {t('settings.keyText')}
        </Text>
        <PasswordInput
          aria-label={t('settings.key')}
          placeholder={t('keyGate.placeholder')}
          value={text}
          onChange={(event) => setText(event.currentTarget.value)}
          error={error}
          autoComplete="off"
          visibilityToggleButtonProps={{ 'aria-label': t('keyGate.label') }}
        />
        <Group gap="xs">
          <Button type="submit" variant="default" disabled={!text.trim()}>
            {t('settings.keySet')}
          </Button>
          {key && (
            <Button
              variant="subtle"
              color="red"
              onClick={() => {
                take('');
                toast(t('settings.keyForgotten'));
              }}
            >
              {t('settings.keyForget')}
            </Button>
          )}
        </Group>
      </Stack>
    </form>
  );
}

type Limit = keyof typeof en.settings.limits;

/** Nothing where the service does not tell. */
function Quota() {
  const { t, i18n } = useTranslation();
  const query = useQuery({ queryKey: ['usage'], queryFn: ({ signal }) => usage(signal) });
  if (query.error && asProblem(query.error).status !== 404) {
    return <ProblemNote error={query.error} onRetry={() => void query.refetch()} />;
  }
  if (!query.data) return null;
  const { limits, used } = query.data;
  const amount = (limit: string, spent: number, most: number | null): string => {
    if (limit === 'bytes') {
      const size = sizeOf(spent, i18n.language);
      return most === null ? size : t('settings.usageOf', { used: size, limit: sizeOf(most, i18n.language) });
    }
    if (most === null) return t('settings.usageFree');
    // Drawing is counted in pixels times steps, which tells nobody anything.
    if (limit === 'pixel_steps_per_day') return t('settings.usagePercent', { percent: shareOf(spent, most, i18n.language) });
    const number = (value: number): string => value.toLocaleString(i18n.language);
    return t('settings.usageOf', { used: number(spent), limit: number(most) });
  };
  const name = (limit: string): string =>
    Object.hasOwn(en.settings.limits, limit) ? t(`settings.limits.${limit as Limit}`) : limit;
  return (
    <Section title={t('settings.usage')}>
      <Stack gap="sm">
        {Object.entries(limits).map(([limit, most]) => (
          <div key={limit}>
            <Group justify="space-between">
              <Text size="sm">{name(limit)}</Text>
              <Text size="sm" c="dimmed">
                {amount(limit, used[limit] ?? 0, most)}
              </Text>
            </Group>
            {most !== null && <Progress value={(100 * (used[limit] ?? 0)) / most} aria-label={name(limit)} mt={4} />}
          </div>
        ))}
      </Stack>
    </Section>
  );
}
