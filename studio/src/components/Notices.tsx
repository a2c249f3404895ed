/** What concerns the whole page: lost connection, waiting, toasts, conflicts. */
import { ActionIcon, Button, Group, Modal, Stack, Text } from '@mantine/core';
import { useNetwork } from '@mantine/hooks';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { conflict } from '../api/saving';
import { connected, waits } from '../api/waiting';
import { en } from '../i18n/en';
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
