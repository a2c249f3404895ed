/** A character of the cast: its pictures and words, to be seen and changed. */
import { Button, Group, Loader, Stack, Text } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState, type FormEvent } from 'react';
import { useTranslation } from 'react-i18next';
import { useLocation } from 'wouter';
import { changeCharacter, type CharacterFields as Fields } from '../../api/characters';
import type { Character } from '../../api/client';
import { charactersQuery, queryKeys } from '../../api/queries';
import { Empty, ProblemNote, ScreenTitle } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { useFieldProblem } from '../../components/problems';
import { mentionOf } from '../../lib/mentions';
import { toast } from '../../lib/toasts';
import { useDeleteCharacter } from '../castActions';
import { CharacterFields, nameTaken } from './CharacterFields';
import { changesOf } from './NewCharacter';
import { PictureList } from './PictureList';
import classes from './Character.module.css';

export default function CharacterScreen({ id }: { id: string }) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const query = useQuery(charactersQuery);
  const character = query.data?.find((each) => each.id === id);
  if (query.error) return <ProblemNote error={query.error} onRetry={() => void query.refetch()} />;
  if (!query.data) return <Loader size="sm" role="status" aria-label={t('common.loading')} />;
  if (!character) {
    return (
      <Empty whole icon="users" title={t('character.gone')} text={t('problem.character_not_found')}>
        <Button onClick={() => go('/cast')}>{t('cast.title')}</Button>
      </Empty>
    );
  }
  return <Known character={character} cast={query.data} />;
}

function Known({ character, cast }: { character: Character; cast: readonly Character[] }) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const cache = useQueryClient();
  const { name, description, target_word } = character;
  const [fields, setFields] = useState<Fields>({ name, description, target_word });
  const [checked, setChecked] = useState(false);
  const save = useMutation({
    mutationFn: () => changeCharacter(character.id, changesOf(character, fields)),
    onSuccess: () => {
      toast(t('character.saved'));
      void cache.invalidateQueries({ queryKey: queryKeys.characters });
      void cache.invalidateQueries({ queryKey: ['story'] });
    },
  });
  const remove = useDeleteCharacter(() => go('/cast'));
  const changed = Object.keys(changesOf(character, fields)).length > 0;
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setChecked(true);
    if (fields.name.trim() && !nameTaken(fields.name, cast, character.id) && changed) save.mutate();
  };
  const about = useFieldProblem(save.error);
  return (
    <>
      <ScreenTitle>{character.name}</ScreenTitle>
      <div className={classes.columns}>
        <PictureList character={character} />
        <form className={classes.form} onSubmit={submit}>
          <Stack gap="md">
            <Text size="sm" c="dimmed">
              {t('character.mentionAs')} <span className={classes.mentionAs}>{mentionOf(character.name)}</span>
            </Text>
            <CharacterFields
              fields={fields}
              onChange={setFields}
              cast={cast}
              id={character.id}
              wordSource={fields.target_word === target_word ? character.word_source : null}
              checked={checked}
              error={save.error}
            />
            {!about('name', 'description', 'target_word') && <ProblemNote error={save.error} />}
            <ProblemNote error={remove.error} />
            <Group gap="xs">
              <Button type="submit" disabled={!changed} loading={save.isPending}>
                {t('character.unsaved')}
              </Button>
              <Button variant="subtle" color="red" leftSection={<Icon name="trash" />} onClick={() => void remove.ask(character)}>
                {t('cast.delete')}
              </Button>
            </Group>
          </Stack>
        </form>
      </div>
    </>
  );
}
