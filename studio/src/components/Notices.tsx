/** What concerns the whole page: lost connection, waiting, toasts, conflicts. */
import { ActionIcon, Button, Group, Modal, Stack, Text } from '@mantine/core';
import { useNetwork } from '@mantine/hooks';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { limits } from '../api/limits';
import { conflict } from '../api/saving';
import { connected, waits } from '../api/waiting';
import { en } from '../i18n/en';
import { timeOf } from '../lib/amounts';
import { nearness, percentOf } from '../lib/limits';
import { useStore } from '../lib/store';
import { dismiss, toasts } from '../lib/toasts';
import { Icon } from './Icon';
import classes from './Notices.module.css';

export function Banners() {
  const { t } = useTranslation();
  const there = useStore(connected);
  const { online } = useNetwork();
  return (
    <div className={classes.banners} aria-live="polite">
      {(!there || !online) && (
        <div className={classes.banner}>
          <Icon name="cloudOff" />
          <Text size="sm">{t(online ? 'wait.offline' : 'wait.offlineBrowser')}</Text>
        </div>
      )}
      <Waiting />
      <NearTheEnd />
    </div>
  );
}

const HOUR_MS = 3_600_000;

/** Little is left of what the key may draw today, or nothing. */
function NearTheEnd() {
  const { t, i18n } = useTranslation();
  const { drawing } = useStore(limits);
  const [dismissed, setDismissed] = useState<string | null>(null);
  const [now, setNow] = useState(Date.now);
  const resets = drawing?.resets ?? null;
  useEffect(() => {
    if (resets === null) return;
    const timer = setTimeout(() => setNow(Date.now()), Math.max(0, resets - Date.now()));
    return () => clearTimeout(timer);
  }, [resets]);
  const near = nearness(drawing, now);
  const told = drawing && `${near} ${Math.round(drawing.resets / HOUR_MS)}`;
  if (!drawing || !near || dismissed === told) return null;
  const time = timeOf(drawing.resets, i18n.language);
  return (
    <div className={classes.banner}>
      <Icon name="alert" />
      <Text size="sm">
        {near === 'out'
          ? t('quota.out', { time })
          : t('quota.low', { percent: percentOf(drawing.left, drawing.limit), time })}
      </Text>
      <ActionIcon variant="subtle" color="gray" aria-label={t('common.dismiss')} onClick={() => setDismissed(told)}>
        <Icon name="close" size={16} />
      </ActionIcon>
    </div>
  );
}

function Waiting() {
  const { t } = useTranslation();
  const all = useStore(waits);
  const [now, setNow] = useState(0);
  useEffect(() => {
    if (all.length === 0) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [all.length]);
  const next = [...all].sort((one, other) => one.until - other.until)[0];
  if (!next) return null;
  const count = Math.max(1, Math.ceil((next.until - Math.max(now, next.begun)) / 1000));
  return (
    <div className={classes.banner} aria-live="off">
      <Icon name="clock" />
      <Text size="sm">{next.reason === 'limit' ? t('wait.limit', { count }) : t('wait.busy', { count })}</Text>
      <Button size="compact-sm" variant="default" onClick={() => all.forEach((wait) => wait.stop())}>
        {t('wait.stop')}
      </Button>
    </div>
  );
}

export function Toasts() {
  const { t } = useTranslation();
  const shown = useStore(toasts);
  return (
    <div className={classes.toasts} role="status">
      {shown.map((toast) => (
        <div key={toast.id} className={classes.toast} data-tone={toast.tone}>
          <Icon name={toast.tone === 'error' ? 'alert' : 'check'} />
          <Text size="sm" className={classes.toastText}>
            {toast.text}
          </Text>
          {toast.undo && (
            <Button
              size="compact-sm"
              variant="subtle"
              onClick={() => {
                toast.undo?.();
                dismiss(toast.id);
              }}
            >
              {t('common.undo')}
            </Button>
          )}
          <ActionIcon variant="subtle" color="gray" aria-label={t('common.dismiss')} onClick={() => dismiss(toast.id)}>
            <Icon name="close" size={16} />
          </ActionIcon>
        </div>
      ))}
    </div>
  );
}

type Field = keyof typeof en.conflict.fields;

export function ConflictDialog() {
  const { t } = useTranslation();
  const asked = useStore(conflict);
  const nameOf = (name: string): string =>
    Object.hasOwn(en.conflict.fields, name) ? t(`conflict.fields.${name as Field}`) : name;
  return (
    <Modal
      opened={asked !== null}
      onClose={() => undefined}
      withCloseButton={false}
      closeOnEscape={false}
      closeOnClickOutside={false}
      size="lg"
      title={t('conflict.title')}
    >
      <Stack gap="md">
        <Text size="sm">{t('conflict.text')}</Text>
        {asked?.fields.map((field) => (
          <div key={field.name}>
            <Text fw={600} size="sm" mb={4}>
              {nameOf(field.name)}
            </Text>
            <div className={classes.versions}>
              <Version label={t('conflict.theirs')} value={field.theirs} />
              <Version label={t('conflict.mine')} value={field.mine} />
            </div>
          </div>
        ))}
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={() => asked?.decide('theirs')}>
            {t('conflict.keepTheirs')}
          </Button>
          <Button onClick={() => asked?.decide('mine')} data-autofocus>
            {t('conflict.keepMine')}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}

function Version({ label, value }: { label: string; value: unknown }) {
  return (
    <div className={classes.version}>
      <Text size="xs" c="dimmed">
        {label}
      </Text>
      <Text size="sm" className={classes.versionText}>
        {typeof value === 'string' ? value : JSON.stringify(value, null, 1)}
      </Text>
    </div>
  );
}
