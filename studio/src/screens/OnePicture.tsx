/** One picture: a subject dropped, or characters of a picture drawn before; a prompt; and a picture of it. */
import { Button, Group, NumberInput, Stack, Text, Textarea, TextInput } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef, useState, type FormEvent } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'wouter';
import { drawPicture, type Drawn, type Look } from '../api/drawing';
import { isStopped } from '../api/problem';
import { queryKeys } from '../api/queries';
import { Advanced, type Sampling } from '../components/Advanced';
import { ProblemNote, ScreenTitle } from '../components/bits';
import { Icon } from '../components/Icon';
import { BlobPicture } from '../components/Picture';
import { Strength } from '../components/Strength';
import { useFieldProblem } from '../components/problems';
import { base64ToBlob } from '../lib/base64';
import { fileName, save } from '../lib/files';
import type { RecalledCharacter } from '../lib/recall';
import { offered } from './character/offered';
import { Making } from './onePicture/Making';
import { recalled } from './onePicture/recalled';
import { Characters, Dropped } from './onePicture/Subject';
import classes from './OnePicture.module.css';

interface Round {
  id: number;
  picture: Blob;
  prompt: string;
  word: string;
  seed: number;
}

const USUAL: Sampling = { sampler: null, steps: null, guidance_scale: null, loras: [] };
/** The fields at which a problem is told. */
const FIELDS = [
  ...['prompt', 'negative_prompt', 'target_word', 'characters', 'image', 'pictures'],
  ...['seed', 'size', 'sampler', 'steps', 'guidance_scale', 'loras'],
];
const MAX_SEED = 4294967295;
const SIZE = /^[1-9]\d{1,4}x[1-9]\d{1,4}$/;

type Value = string | number | null;

/** The values that are given; the service does without the others as usual. */
function given(values: Record<string, Value>): Record<string, string | number> {
  const entries = Object.entries(values).filter((entry): entry is [string, string | number] => entry[1] !== null && entry[1] !== '');
  return Object.fromEntries(entries);
}

export default function OnePicture() {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const cache = useQueryClient();
  const [start] = useState(recalled.get);
  useEffect(() => recalled.set(null), []);
  const [source, setSource] = useState<Blob | null>(null);
  const [characters, setCharacters] = useState<RecalledCharacter[] | null>(start?.characters ?? null);
  const [prompt, setPrompt] = useState(start?.prompt ?? '');
  const [negative, setNegative] = useState(start?.negative_prompt ?? '');
  const [word, setWord] = useState('');
  const [strength, setStrength] = useState(1);
  const [sampling, setSampling] = useState<Sampling>(start ?? USUAL);
  const [seed, setSeed] = useState<string | number>(start?.seed ?? '');
  const [size, setSize] = useState(start?.size ?? '');
  const [checked, setChecked] = useState(false);
  const [rounds, setRounds] = useState<Round[]>([]);
  const [shown, setShown] = useState<number | null>(null);
  const [look, setLook] = useState<Look | null>(null);
  const controller = useRef<AbortController | null>(null);
  const draw = useMutation({
    mutationFn: (): Promise<Drawn> => {
      setLook(null);
      controller.current = new AbortController();
      const { signal } = controller.current;
      const { sampler, steps, guidance_scale, loras } = sampling;
      const numbers = { steps, guidance_scale, seed: seed === '' ? null : Number(seed) };
      const fields = given({ ...numbers, prompt: prompt.trim(), negative_prompt: negative.trim(), sampler, size });
      if (characters || !source) {
        return drawPicture('/v1/images/generations', { ...fields, loras, characters: characters ?? [] }, setLook, signal);
      }
      const form = new FormData();
      form.append('image', source, 'picture');
      if (loras.length) form.set('loras', JSON.stringify(loras));
      const all = { ...fields, strength, ...given({ target_word: word.trim() }) };
      for (const [name, value] of Object.entries(all)) form.set(name, String(value));
      return drawPicture('/v1/images/edits', form, setLook, signal);
    },
    onSuccess: (answer) => {
      const id = rounds.length + 1;
      const found = answer.target_words[0] ?? word;
      const picture = base64ToBlob(answer.b64_json);
      setRounds([{ id, picture, prompt: prompt.trim(), word: found, seed: answer.seed }, ...rounds]);
      setShown(id);
      void cache.invalidateQueries({ queryKey: queryKeys.history });
    },
  });
  const error = isStopped(draw.error) ? null : draw.error;
  const about = useFieldProblem(error);
  const placed = about(...FIELDS);
  const sizeGood = size === '' || SIZE.test(size);
  const seedGood = seed === '' || (Number.isInteger(Number(seed)) && Number(seed) >= 0 && Number(seed) <= MAX_SEED);
  const current = rounds.find((round) => round.id === shown) ?? null;
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setChecked(true);
    if ((characters || source) && prompt.trim() && sizeGood && seedGood) draw.mutate();
  };
  const goOn = (picture: Blob): void => {
    setCharacters(null);
    setSource(picture);
  };
  return (
    <>
      <ScreenTitle>{t('picture.title')}</ScreenTitle>
      <Text c="dimmed" mt={-12} mb="lg" maw={640}>
        {t('picture.lead')}
      </Text>
      <div className={classes.columns}>
        <form onSubmit={submit} noValidate>
          <Stack gap="md">
            {characters ? (
              <Characters characters={characters} problem={about('characters', 'target_word')} onChange={setCharacters} />
            ) : (
              <Dropped
                picture={source}
                again={start?.characters === null}
                problem={about('image', 'pictures') ?? (checked && !source ? t('picture.pictureMissing') : undefined)}
                onChange={setSource}
              />
            )}
            <Textarea
              label={t('picture.prompt')}
              placeholder={t('picture.promptPlaceholder')}
              autosize
              minRows={2}
              maxLength={4000}
              value={prompt}
              error={about('prompt') ?? (checked && !prompt.trim() ? t('picture.promptMissing') : undefined)}
              onChange={(event) => setPrompt(event.currentTarget.value)}
            />
            {!characters && (
              <>
                <TextInput
                  label={t('picture.word')}
                  description={current && !word ? t('picture.wordFound', { word: current.word }) : t('picture.wordAuto')}
                  placeholder={current?.word}
                  value={word}
                  maxLength={64}
                  error={about('target_word', 'characters')}
                  onChange={(event) => setWord(event.currentTarget.value)}
                />
                <Strength
                  label={t('picture.strength')}
                  part={t('picture.strength')}
                  value={strength}
                  onChange={setStrength}
                />
              </>
            )}
            <Advanced values={sampling} onChange={(change) => setSampling({ ...sampling, ...change })} about={about}>
              <Group grow align="flex-start" gap="md">
                <NumberInput
                  label={t('panel.seed')}
                  placeholder={t('picture.seedNew')}
                  value={seed}
                  min={0}
                  max={MAX_SEED}
                  clampBehavior="none"
                  allowDecimal={false}
                  allowNegative={false}
                  hideControls
                  error={about('seed') ?? (seedGood ? undefined : t('panel.seedInvalid'))}
                  onChange={setSeed}
                />
                <TextInput
                  label={t('panel.sizeOwn')}
                  placeholder={t('panel.sizeAuto')}
                  value={size}
                  error={about('size') ?? (sizeGood ? undefined : t('panel.sizeInvalid'))}
                  onChange={(event) => setSize(event.currentTarget.value.trim().toLowerCase().replace('×', 'x'))}
                />
              </Group>
              <TextInput
                label={t('picture.negative')}
                description={t('picture.negativeHint')}
                value={negative}
                maxLength={4000}
                error={about('negative_prompt')}
                onChange={(event) => setNegative(event.currentTarget.value)}
              />
            </Advanced>
            {!placed && <ProblemNote error={error} />}
            <Group gap="xs">
              <Button type="submit" loading={draw.isPending} leftSection={<Icon name="sparkles" />}>
                {t(rounds.length ? 'picture.drawAgain' : 'picture.draw')}
              </Button>
              {draw.isPending && (
                <Button variant="default" onClick={() => controller.current?.abort()}>
                  {t('picture.stop')}
                </Button>
              )}
            </Group>
          </Stack>
        </form>
        <section aria-label={t('picture.result')} className={classes.result}>
          {draw.isPending ? (
            <Making look={look} steps={sampling.steps} />
          ) : current ? (
            <>
              <BlobPicture blob={current.picture} alt={current.prompt} />
              <Group gap="xs">
                <Text size="sm" c="dimmed">
                  {t('panel.seedOf', { seed: current.seed })}
                </Text>
                {seed !== current.seed && (
                  <Button size="compact-sm" variant="subtle" onClick={() => setSeed(current.seed)}>
                    {t('picture.keepSeed')}
                  </Button>
                )}
              </Group>
              <Group gap="xs">
                <Button
                  variant="default"
                  leftSection={<Icon name="users" />}
                  onClick={() => {
                    offered.set(current.picture);
                    go('/cast/new');
                  }}
                >
                  {t('picture.makeCharacter')}
                </Button>
                <Button variant="default" leftSection={<Icon name="redraw" />} onClick={() => goOn(current.picture)}>
                  {t('picture.useAsReference')}
                </Button>
                <Button
                  variant="subtle"
                  leftSection={<Icon name="download" />}
                  onClick={() => save(current.picture, fileName(current.prompt, 'png'))}
                >
                  {t('common.download')}
                </Button>
              </Group>
            </>
          ) : (
            <div className={classes.blank}>{t('picture.resultEmpty')}</div>
          )}
          {rounds.length > 1 && (
            <div>
              <Text fw={600} mb="xs">
                {t('picture.results')}
              </Text>
              <ul className={classes.rounds}>
                {rounds.map((round) => (
                  <li key={round.id}>
                    <button
                      type="button"
                      className={classes.round}
                      aria-pressed={round.id === shown}
                      aria-label={`${t('picture.round', { number: round.id })}: ${round.prompt}`}
                      onClick={() => setShown(round.id)}
                    >
                      <BlobPicture blob={round.picture} alt="" />
                    </button>
                  </li>
                ))}
              </ul>
            </div>
          )}
          <Text size="sm" c="dimmed">
            <Link href="/history" className={classes.link}>
              {t('picture.kept')}
            </Link>
          </Text>
        </section>
      </div>
    </>
  );
}
