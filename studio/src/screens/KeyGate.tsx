/** What is shown in place of a screen while the service wants a key. */
import { Button, Paper, PasswordInput, Stack, Text, Title } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState, type FormEvent } from 'react';
import { useTranslation } from 'react-i18next';
import { held, keyRefused, setKey } from '../api/key';
import { forgetPictures } from '../api/pictures';
import { useStore } from '../lib/store';

export function KeyGate({ onKey }: { onKey: () => void }) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const refused = useStore(keyRefused);
  const changes = useStore(held);
  const [text, setText] = useState('');
  const [shape, setShape] = useState(false);
  useEffect(() => {
    if (changes === 0) return;
    const warn = (event: BeforeUnloadEvent): void => event.preventDefault();
    window.addEventListener('beforeunload', warn);
    return () => window.removeEventListener('beforeunload', warn);
  }, [changes]);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setShape(!text.trim().startsWith('rc-'));
    if (!text.trim().startsWith('rc-')) return;
    setKey(text);
    forgetPictures();
    void cache.resetQueries();
    onKey();
  };
  const error = shape ? t('keyGate.shape') : refused === 'unknown' ? t('keyGate.unknown') : null;
  return (
    <Paper withBorder radius="lg" p="xl" maw={480} mx="auto" mt={{ base: 24, sm: 96 }} component="form" onSubmit={submit}>
      <Stack gap="md">
        <Title order={1}>{t('keyGate.title')}</Title>
        <Text size="sm" c="dimmed">
          {t('keyGate.text')}
        </Text>
        {changes > 0 && <Text size="sm">{t('keyGate.held')}</Text>}
        <PasswordInput
          label={t('keyGate.label')}
          placeholder={t('keyGate.placeholder')}
          value={text}
          onChange={(event) => setText(event.currentTarget.value)}
          error={error}
          autoComplete="off"
          data-autofocus
          visibilityToggleButtonProps={{ 'aria-label': t('keyGate.show') }}
        />
        <Button type="submit">{t('keyGate.go')}</Button>
        <Text size="sm" c="dimmed">
          {t('keyGate.none')}
        </Text>
      </Stack>
    </Paper>
  );
}
