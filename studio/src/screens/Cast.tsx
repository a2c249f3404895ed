/** The cast: all characters as cards. */
import { ActionIcon, Button, FileButton, Menu, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'wouter';
import { createCharacter } from '../api/characters';
import type { Character } from '../api/client';
import { fetchPicture } from '../api/pictures';
import { charactersQuery, queryKeys } from '../api/queries';
import { Empty, ProblemNote, ScreenTitle } from '../components/bits';
import { Icon } from '../components/Icon';
import { Picture } from '../components/Picture';
import { fileName, save, toBase64 } from '../lib/files';
import { folded } from '../lib/mentions';
import { toast } from '../lib/toasts';
import { useDeleteCharacter } from './castActions';
import classes from './Cast.module.css';

const FORMAT = 'realcustom.character';

interface CharacterFile {
  format: typeof FORMAT;
  name: string;
  description: string;
  target_word: string;
  pictures: string[];
  /** White where the subject is; earlier files have cut-outs and none of these. */
  masks?: string[];
}

/** The character as a file: its words, its pictures, and where its subject is in them. */
async function fileOf(character: Character, name: string): Promise<CharacterFile> {
  const read = async (path: string): Promise<string> => toBase64(await fetchPicture(path));
  const { description, target_word } = character;
  const pictures = await Promise.all(character.pictures.map((picture) => read(picture.original)));
  const masks = await Promise.all(character.pictures.map((picture) => read(picture.mask)));
  return { format: FORMAT, name, description, target_word, pictures, masks };
}

function isCharacterFile(value: unknown): value is CharacterFile {
  const file = value as Partial<CharacterFile> | null;
  return file?.format === FORMAT && typeof file.name === 'string' && Array.isArray(file.pictures);
}

function useCopies() {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const create = async ({ name, description, target_word, pictures, masks = [] }: CharacterFile): Promise<Character> => {
    const made = await createCharacter({ name, description, target_word, pictures, masks });
    await cache.invalidateQueries({ queryKey: queryKeys.characters });
    toast(t('cast.imported', { name: made.name }));
    return made;
  };
  const duplicate = useMutation({
    mutationFn: async (character: Character) =>
      create(await fileOf(character, t('cast.copyName', { name: character.name }))),
  });
  const load = useMutation({
    mutationFn: async (file: File) => {
      let read: unknown = null;
      try {
        read = JSON.parse(await file.text());
      } catch {
        // It is told below.
      }
      if (isCharacterFile(read)) return create(read);
      toast(t('cast.importBad'), { tone: 'error' });
      return null;
    },
  });
  const store = useMutation({
    mutationFn: async (character: Character) => {
      const text = JSON.stringify(await fileOf(character, character.name));
      save(new Blob([text], { type: 'application/json' }), fileName(character.name, 'character.json'));
    },
  });
  return { duplicate, load, store, error: duplicate.error ?? load.error ?? store.error };
}

export default function Cast() {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const query = useQuery(charactersQuery);
  const [search, setSearch] = useState('');
  const copies = useCopies();
  const remove = useDeleteCharacter(() => undefined);
  const all = query.data ?? [];
  const wanted = folded(search);
  const shown = all.filter((each) => folded(`${each.name} ${each.target_word} ${each.description}`).includes(wanted));
  const importing = (
    <FileButton accept=".json,application/json" onChange={(file) => file && copies.load.mutate(file)}>
      {(props) => (
        <Button {...props} variant="default" leftSection={<Icon name="upload" />} loading={copies.load.isPending}>
          {t('cast.import')}
        </Button>
      )}
    </FileButton>
  );
  const creating = (
    <Button leftSection={<Icon name="plus" />} onClick={() => go('/cast/new')}>
      {t('cast.new')}
    </Button>
  );
  return (
    <>
      <ScreenTitle
        actions={
          all.length > 0 && (
            <>
              {importing}
              {creating}
            </>
          )
        }
      >
        {t('cast.title')}
      </ScreenTitle>
      <Stack gap="lg">
        <ProblemNote error={query.error} onRetry={() => void query.refetch()} />
        <ProblemNote error={copies.error ?? remove.error} />
        {query.isSuccess && all.length === 0 && (
          <Empty icon="users" title={t('cast.empty')} text={t('cast.emptyText')}>
            {creating}
            {importing}
          </Empty>
        )}
        {all.length > 3 && (
          <TextInput
            aria-label={t('cast.search')}
            placeholder={t('cast.search')}
            leftSection={<Icon name="search" size={16} />}
            maw={360}
            value={search}
            onChange={(event) => setSearch(event.currentTarget.value)}
          />
        )}
        {all.length > 0 && shown.length === 0 && <Text c="dimmed">{t('cast.noMatch', { query: search })}</Text>}
        <ul className={classes.grid}>
          {shown.map((character) => (
            <li key={character.id} className={classes.card}>
              <Link href={`/cast/${character.id}`} className={classes.link}>
                <Picture path={character.reference} alt="" plain className={classes.picture} />
                <span className={classes.name}>
                  {character.name}
                </span>
                <Text component="span" size="sm" c="dimmed" className={classes.line}>
                  {character.target_word} · {t('cast.pictures', { count: character.pictures.length })}
                </Text>
                {character.description && (
                  <Text component="span" size="sm" className={classes.description}>
                    {character.description}
                  </Text>
                )}
              </Link>
              <Menu>
                <Menu.Target>
                  <ActionIcon className={classes.menu} variant="subtle" color="gray" aria-label={t('cast.actions', { name: character.name })}>
                    <Icon name="dots" />
                  </ActionIcon>
                </Menu.Target>
                <Menu.Dropdown>
                  <Menu.Item leftSection={<Icon name="copy" />} onClick={() => copies.duplicate.mutate(character)}>
                    {t('cast.duplicate')}
                  </Menu.Item>
                  <Menu.Item leftSection={<Icon name="download" />} onClick={() => copies.store.mutate(character)}>
                    {t('cast.export')}
                  </Menu.Item>
                  <Menu.Divider />
                  <Menu.Item color="red" leftSection={<Icon name="trash" />} onClick={() => void remove.ask(character)}>
                    {t('cast.delete')}
                  </Menu.Item>
                </Menu.Dropdown>
              </Menu>
            </li>
          ))}
        </ul>
      </Stack>
    </>
  );
}
