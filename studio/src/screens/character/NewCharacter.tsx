/** A new character, from pictures or from a prompt. */
import { Button, Group, SegmentedControl, Stack, Text, Textarea, TextInput } from '@mantine/core';
import { useMutation, useQueryClient, type QueryClient } from '@tanstack/react-query';
import { useEffect, useRef, useState, type FormEvent } from 'react';
import { useTranslation } from 'react-i18next';
import { useLocation } from 'wouter';
import {
  changeCharacter,
  createCharacter,
  createFromPictures,
  deleteCharacter,
  drawCandidates,
  type CharacterFields as Fields,
} from '../../api/characters';
import type { Candidates, Character } from '../../api/client';
import { isStopped } from '../../api/problem';
import { queryKeys, useCast } from '../../api/queries';
import { useAdvice } from '../../components/advice';
import { confirm, ProblemNote, ScreenTitle } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { Base64Picture } from '../../components/Picture';
import { PictureDrop } from '../../components/PictureDrop';
import { useFieldProblem } from '../../components/problems';
import { mentionOf } from '../../lib/mentions';
import { toast } from '../../lib/toasts';
import { CharacterFields, nameTaken } from './CharacterFields';
import { offered, wantedName } from './offered';
import { MAX_PICTURES, PictureList } from './PictureList';
import classes from './Character.module.css';

type Source = 'pictures' | 'prompt';

export default function NewCharacter() {
  const { t } = useTranslation();
  const [source, setSource] = useState<Source>('pictures');
  const [draft, setDraft] = useState<string | null>(null);
  const [name] = useState(wantedName.get);
  useEffect(() => wantedName.set(''), []);
  const cast = useCast();
  const character = cast.find((each) => each.id === draft) ?? null;
  return (
    <>
      <ScreenTitle>{t('character.newTitle')}</ScreenTitle>
      {!character && (
        <SegmentedControl
          mb="lg"
          aria-label={t('character.from')}
          value={source}
          onChange={(value) => setSource(value)}
          data={[
            { value: 'pictures', label: t('character.fromPictures') },
            { value: 'prompt', label: t('character.fromPrompt') },
          ]}
        />
      )}
      {character ? (
        <Draft character={character} cast={cast} name={name} />
      ) : source === 'pictures' ? (
        <FromPictures onDraft={(made) => setDraft(made.id)} />
      ) : (
        <FromPrompt cast={cast} name={name} />
      )}
    </>
  );
}

/** Show a new or changed character at once, and read the list again. */
function inCast(cache: QueryClient, made: Character): void {
  const others = (all: Character[] | undefined): Character[] => (all ?? []).filter((each) => each.id !== made.id);
  cache.setQueryData<Character[]>(queryKeys.characters, (old) => [made, ...others(old)]);
  void cache.invalidateQueries({ queryKey: queryKeys.characters });
}

/** Pictures become a character at once, so that its cut-outs can be seen; its name and words come after. */
function FromPictures({ onDraft }: { onDraft: (character: Character) => void }) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const [refused, setRefused] = useState<string | null>(null);
  const [pending, setPending] = useState<File[]>([]);
  const [word, setWord] = useState('');
  const create = useMutation({
    mutationFn: (files: File[]) => {
      const fields = { name: t('character.unnamed'), description: '', target_word: word.trim() };
      return createFromPictures(fields, files.slice(0, MAX_PICTURES));
    },
    onSuccess: (made, files) => {
      inCast(cache, made);
      if (files.length > MAX_PICTURES) toast(t('character.tooMany'), { tone: 'error' });
      onDraft(made);
    },
  });
  const { mutate } = create;
  const start = useRef((files: File[]): void => {
    setPending(files);
    setRefused(null);
    mutate(files);
  });
  useEffect(() => {
    const blob = offered.get();
    if (!blob) return;
    offered.set(null);
    start.current([new File([blob], 'picture.png', { type: blob.type || 'image/png' })]);
  }, []);
  const about = useFieldProblem(create.error);
  const wordProblem = about('target_word', 'word');
  return (
    <Stack gap="md" maw={720}>
      <PictureDrop
        title={t(create.isPending ? 'character.adding' : 'character.drop')}
        multiple
        busy={create.isPending}
        onPictures={(files) => start.current(files)}
        onRefused={setRefused}
      />
      {refused && (
        <Text size="sm" c="var(--mantine-color-error)" role="alert">
          {refused}
        </Text>
      )}
      {wordProblem ? (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            mutate(pending);
          }}
        >
          <Group align="flex-end" gap="xs">
            <TextInput
              label={t('character.word')}
              description={t('character.wordHint')}
              error={wordProblem}
              value={word}
              onChange={(event) => setWord(event.currentTarget.value)}
            />
            <Button type="submit" loading={create.isPending} disabled={!word.trim()}>
              {t('common.retry')}
            </Button>
          </Group>
        </form>
      ) : (
        <ProblemNote error={create.error} />
      )}
    </Stack>
  );
}

function Draft({ character, cast, name }: { character: Character; cast: readonly Character[]; name: string }) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const cache = useQueryClient();
  const [checked, setChecked] = useState(false);
  const [fields, setFields] = useState<Fields>({
    name,
    description: character.description,
    target_word: character.target_word,
  });
  const leave = { onSuccess: () => go('/cast') };
  const save = useMutation({
    mutationFn: () => changeCharacter(character.id, changesOf(character, fields)),
    onSuccess: (made) => {
      toast(t('character.created', { name: made.name, mention: mentionOf(made.name) }));
      inCast(cache, made);
    },
  });
  const discard = useMutation({
    mutationFn: () => deleteCharacter(character.id),
    onSuccess: () => void cache.invalidateQueries({ queryKey: queryKeys.characters }),
  });
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setChecked(true);
    if (fields.name.trim() && !nameTaken(fields.name, cast, character.id)) save.mutate(undefined, leave);
  };
  const ask = async (): Promise<void> => {
    const texts = { title: t('character.discardTitle'), text: t('character.discardText'), action: t('character.discard') };
    if (await confirm(texts)) discard.mutate(undefined, leave);
  };
  const about = useFieldProblem(save.error);
  return (
    <div className={classes.columns}>
      <PictureList character={character} />
      <form className={classes.form} onSubmit={submit}>
        <CharacterFields
          fields={fields}
          onChange={setFields}
          cast={cast}
          id={character.id}
          wordSource={fields.target_word === character.target_word ? character.word_source : null}
          checked={checked}
          error={save.error}
        />
        {!about('name', 'description', 'target_word') && <ProblemNote error={save.error ?? discard.error} />}
        <Group mt="lg" gap="xs">
          <Button type="submit" loading={save.isPending}>
            {t('character.create')}
          </Button>
          <Button variant="subtle" color="gray" loading={discard.isPending} onClick={() => void ask()}>
            {t('character.discard')}
          </Button>
        </Group>
      </form>
    </div>
  );
}

/** The fields that differ from the character; the service wants no empty word. */
export function changesOf(character: Character, fields: Fields): Partial<Fields> {
  const changes: Partial<Fields> = {};
  if (fields.name.trim() && fields.name.trim() !== character.name) changes.name = fields.name.trim();
  if (fields.description.trim() !== character.description) changes.description = fields.description.trim();
  const word = fields.target_word.trim();
  if (word && word !== character.target_word) changes.target_word = word;
  return changes;
}

function FromPrompt({ cast, name }: { cast: readonly Character[]; name: string }) {
  const { t } = useTranslation();
  const advice = useAdvice();
  const [, go] = useLocation();
  const cache = useQueryClient();
  const [prompt, setPrompt] = useState('');
  const [missing, setMissing] = useState(false);
  const [choice, setChoice] = useState(0);
  const [checked, setChecked] = useState(false);
  const [fields, setFields] = useState<Fields>({ name, description: '', target_word: '' });
  const controller = useRef<AbortController | null>(null);
  const draw = useMutation<Candidates>({
    mutationFn: () => {
      controller.current = new AbortController();
      return drawCandidates(prompt.trim(), 4, controller.current.signal);
    },
    onSuccess: () => {
      setChoice(0);
      void cache.invalidateQueries({ queryKey: queryKeys.history });
    },
  });
  const create = useMutation({
    mutationFn: (candidates: Candidates) =>
      createCharacter({
        name: fields.name.trim(),
        description: fields.description.trim(),
        target_word: fields.target_word.trim(),
        candidates: candidates.id,
        choice,
      }),
    onSuccess: (made) => {
      toast(t('character.created', { name: made.name, mention: mentionOf(made.name) }));
      inCast(cache, made);
    },
  });
  const ask = (event: FormEvent): void => {
    event.preventDefault();
    setMissing(!prompt.trim());
    if (prompt.trim()) draw.mutate();
  };
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setChecked(true);
    if (draw.data && fields.name.trim() && !nameTaken(fields.name, cast, null)) {
      create.mutate(draw.data, { onSuccess: () => go('/cast') });
    }
  };
  const error = isStopped(draw.error) ? null : draw.error;
  const about = useFieldProblem(error);
  const aboutNew = useFieldProblem(create.error);
  const candidates = draw.data;
  return (
    <div className={candidates ? classes.columns : undefined}>
      <Stack gap="lg" maw={candidates ? undefined : 720}>
        <form onSubmit={ask}>
          <Textarea
            label={t('character.prompt')}
            placeholder={t('character.promptPlaceholder')}
            autosize
            minRows={2}
            maxLength={1000}
            value={prompt}
            error={missing && !prompt.trim() ? t('character.promptMissing') : about('prompt')}
            onChange={(event) => setPrompt(event.currentTarget.value)}
          />
          <Group gap="xs" mt="sm">
            <Button type="submit" loading={draw.isPending} leftSection={<Icon name="sparkles" />}>
              {t(candidates ? 'character.drawMore' : 'character.drawCandidates')}
            </Button>
            {draw.isPending && (
              <Button variant="default" onClick={() => controller.current?.abort()}>
                {t('picture.stop')}
              </Button>
            )}
          </Group>
        </form>
        {!about('prompt') && <ProblemNote error={error} />}
        {candidates && (
          <fieldset className={classes.candidates} aria-label={t('character.candidates')}>
            {candidates.data.map((each, place) => (
              <label key={`${candidates.id}-${place}`} className={classes.candidate}>
                <input type="radio" name="candidate" checked={choice === place} onChange={() => setChoice(place)} />
                <Base64Picture encoded={each.b64_json} alt={t('character.candidate', { number: place + 1 })} />
                {each.advice.sentences.length > 0 && (
                  <span className={classes.candidateText}>{each.advice.sentences.map(advice).join(' ')}</span>
                )}
              </label>
            ))}
          </fieldset>
        )}
      </Stack>
      {candidates && (
        <form className={classes.form} onSubmit={submit}>
          <CharacterFields
            fields={{ ...fields, description: fields.description || candidates.prompt }}
            onChange={setFields}
            cast={cast}
            id={null}
            wordSource={null}
            checked={checked}
            error={create.error}
          />
          {!aboutNew('name', 'description', 'target_word') && <ProblemNote error={create.error} />}
          <Button type="submit" mt="lg" loading={create.isPending}>
            {t('character.create')}
          </Button>
        </form>
      )}
    </div>
  );
}
