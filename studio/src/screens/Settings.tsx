/** The key, the language, the appearance, and what is left of the quota. */
import { Button, Group, PasswordInput, SegmentedControl, Stack, Text, useMantineColorScheme } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState, type FormEvent } from 'react';
import { useTranslation } from 'react-i18next';
import { keyRefused, keyStore, setKey } from '../api/key';
import { forgetPictures } from '../api/pictures';
import { modelsQuery } from '../api/queries';
import { ScreenTitle, Section } from '../components/bits';
import { LANGUAGES, speak, type Language } from '../i18n';
import { useStore } from '../lib/store';
import { toast } from '../lib/toasts';
import { Quota } from './Quota';

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
          visibilityToggleButtonProps={{ 'aria-label': t('keyGate.show') }}
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
