/** Name, description and word of a character. */
import { Stack, Text, Textarea, TextInput } from '@mantine/core';
import { useTranslation } from 'react-i18next';
import type { CharacterFields as Fields } from '../../api/characters';
import type { Character } from '../../api/client';
import { useFieldProblem } from '../../components/problems';
import { folded } from '../../lib/mentions';

interface CharacterFieldsProps {
  fields: Fields;
  onChange: (fields: Fields) => void;
  cast: readonly Character[];
  /** Of the character itself, which may keep its name. */
  id: string | null;
  wordSource: Character['word_source'];
  checked: boolean;
  error: unknown;
}

const SOURCES = { given: 'wordGiven', description: 'wordDescribed', detected: 'wordFound' } as const;

export function nameTaken(name: string, cast: readonly Character[], id: string | null): boolean {
  return cast.some((each) => each.id !== id && folded(each.name) === folded(name));
}

export function CharacterFields({ fields, onChange, cast, id, wordSource, checked, error }: CharacterFieldsProps) {
  const { t } = useTranslation();
  const about = useFieldProblem(error);
  const missing = checked && !fields.name.trim() ? t('character.nameMissing') : undefined;
  const taken = fields.name.trim() && nameTaken(fields.name, cast, id) ? t('character.nameTaken') : undefined;
  const set = (part: Partial<Fields>): void => onChange({ ...fields, ...part });
  return (
    <Stack gap="md">
      <TextInput
        label={t('character.name')}
        description={fields.name.trim() ? t('character.nameHint', { name: fields.name.trim() }) : undefined}
        value={fields.name}
        maxLength={100}
        error={missing ?? taken ?? about('name')}
        onChange={(event) => set({ name: event.currentTarget.value })}
        autoComplete="off"
      />
      <Textarea
        label={t('character.description')}
        description={t('character.descriptionHint')}
        placeholder={t('character.descriptionPlaceholder')}
        autosize
        minRows={2}
        maxLength={1000}
        value={fields.description}
        error={about('description')}
        onChange={(event) => set({ description: event.currentTarget.value })}
      />
      <div>
        <TextInput
          label={t('character.word')}
          description={t('character.wordHint')}
          value={fields.target_word}
          maxLength={64}
          error={about('target_word')}
          onChange={(event) => set({ target_word: event.currentTarget.value })}
          autoComplete="off"
        />
        {wordSource && fields.target_word && (
          <Text size="xs" c="dimmed" mt={4}>
            {t(`character.${SOURCES[wordSource]}`)}
          </Text>
        )}
      </div>
    </Stack>
  );
}
