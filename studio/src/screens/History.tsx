/** Everything that was drawn, newest first. */
import { Button, Group, Loader, Modal, Select, Stack, Text } from '@mantine/core';
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { useLocation } from 'wouter';
import { fetchPicture } from '../api/pictures';
import { asProblem } from '../api/problem';
import { queryKeys, storiesQuery, useCast } from '../api/queries';
import { history, type Generation } from '../api/stories';
import { confirm, Empty, ProblemNote, ScreenTitle } from '../components/bits';
import { Icon } from '../components/Icon';
import { Picture } from '../components/Picture';
import { fileName, save } from '../lib/files';
import { lorasText } from '../lib/loras';
import { recallOf } from '../lib/recall';
import { samplerLabel } from '../lib/samplers';
import { toast } from '../lib/toasts';
import { offered } from './character/offered';
import { recalled } from './onePicture/recalled';
import classes from './History.module.css';

export default function History() {
  const { t, i18n } = useTranslation();
  const [character, setCharacter] = useState<string | null>(null);
  const [story, setStory] = useState<string | null>(null);
  const [opened, setOpened] = useState<Generation | null>(null);
  const cast = useCast();
  const heads = useQuery(storiesQuery).data ?? [];
  const query = useInfiniteQuery({
    queryKey: [...queryKeys.history, character, story],
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) =>
      history.list({ ...(character && { character }), ...(story && { story }) }, pageParam, signal),
    getNextPageParam: (last) => (last.has_more ? last.data.at(-1)?.id : undefined),
  });
  const all = query.data?.pages.flatMap((page) => page.data) ?? [];
  const filtered = character !== null || story !== null;
  const absent = query.error !== null && asProblem(query.error).status === 404;
  const titleOf = (id: string): string => heads.find((head) => head.id === id)?.title || t('common.untitled');
  const days = groupByDay(all, i18n.language, { today: t('history.today'), yesterday: t('history.yesterday') });
  return (
    <>
      <ScreenTitle>{t('history.title')}</ScreenTitle>
      <Stack gap="lg">
        {!absent && (all.length > 0 || filtered) && (
          <Group gap="sm" align="flex-end">
            <Select
              label={t('history.filterCharacter')}
              placeholder={t('common.all')}
              data={cast.map((each) => ({ value: each.id, label: each.name }))}
              value={character}
              onChange={setCharacter}
              clearable
              clearButtonProps={{ 'aria-label': t('history.clear') }}
              searchable
            />
            <Select
              label={t('history.filterStory')}
              placeholder={t('common.all')}
              data={heads.map((head) => ({ value: head.id, label: head.title || t('common.untitled') }))}
              value={story}
              onChange={setStory}
              clearable
              clearButtonProps={{ 'aria-label': t('history.clear') }}
              searchable
            />
          </Group>
        )}
        {!absent && <ProblemNote error={query.error} onRetry={() => void query.refetch()} />}
        {absent && <Empty icon="clock" title={t('history.absent')} text={t('history.absentText')} />}
        {query.isPending && <Loader size="sm" role="status" aria-label={t('common.loading')} />}
        {query.isSuccess && all.length === 0 && !filtered && (
          <Empty icon="clock" title={t('history.empty')} text={t('history.emptyText')} />
        )}
        {query.isSuccess && all.length === 0 && filtered && <Text c="dimmed">{t('history.noMatch')}</Text>}
        {days.map((day) => (
          <section key={day.name}>
            <h2 className={classes.day}>{day.name}</h2>
            <ul className={classes.grid}>
              {day.pictures.map((each) => (
                <li key={each.id}>
                  <button
                    type="button"
                    className={classes.tile}
                    aria-label={t('history.open', { prompt: each.settings.prompt || t('history.noPrompt') })}
                    onClick={() => setOpened(each)}
                  >
                    <Picture path={each.thumbnail} alt="" />
                    <span className={classes.prompt}>{each.settings.prompt || t('history.noPrompt')}</span>
                  </button>
                </li>
              ))}
            </ul>
          </section>
        ))}
        {query.hasNextPage && (
          <Group justify="center">
            <Button variant="default" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
              {t('common.more')}
            </Button>
          </Group>
        )}
      </Stack>
      <Details picture={opened} titleOf={titleOf} onClose={() => setOpened(null)} />
    </>
  );
}

interface Day {
  name: string;
  pictures: Generation[];
}

function groupByDay(all: Generation[], language: string, words: { today: string; yesterday: string }): Day[] {
  const days: Day[] = [];
  const today = new Date();
  const yesterday = new Date();
  yesterday.setDate(today.getDate() - 1);
  for (const each of all) {
    const date = new Date(each.created * 1000);
    const name =
      date.toDateString() === today.toDateString()
        ? words.today
        : date.toDateString() === yesterday.toDateString()
          ? words.yesterday
          : date.toLocaleDateString(language, { dateStyle: 'long' });
    const last = days.at(-1);
    if (last?.name === name) last.pictures.push(each);
    else days.push({ name, pictures: [each] });
  }
  return days;
}

interface DetailsProps {
  picture: Generation | null;
  titleOf: (story: string) => string;
  onClose: () => void;
}

function Details({ picture, titleOf, onClose }: DetailsProps) {
  const { t, i18n } = useTranslation();
  const [, go] = useLocation();
  const cache = useQueryClient();
  const remove = useMutation({
    mutationFn: (id: string) => history.remove(id),
    onSuccess: () => {
      toast(t('history.deleted'));
      void cache.invalidateQueries({ queryKey: queryKeys.history });
      onClose();
    },
  });
  const fetching = useMutation({ mutationFn: (path: string) => fetchPicture(path) });
  const ask = async (id: string): Promise<void> => {
    const texts = { title: t('history.deleteTitle'), text: t('history.deleteText'), action: t('common.delete') };
    if (await confirm(texts)) remove.mutate(id);
  };
  const settings = picture?.settings;
  const names = settings?.characters.map((each) => each.name).join(', ');
  const rows: [string, string | number | null | undefined][] = picture
    ? [
        [t('history.prompt'), settings?.prompt],
        [t('history.characters'), names],
        [t('history.seed'), picture.seed],
        [t('history.size'), `${picture.width} × ${picture.height}`],
        [t('history.steps'), settings?.steps],
        [t('history.guidance'), settings?.guidance_scale],
        [t('advanced.sampler'), settings && (settings.scheduler ? samplerLabel(settings.scheduler) : t('advanced.usual'))],
        [t('advanced.loras'), lorasText(settings?.loras ?? [])],
        [t('picture.negative'), settings?.negative_prompt],
        [t('history.model'), `${picture.model} ${picture.model_version}`],
        [
          t('history.drawnAt'),
          new Date(picture.created * 1000).toLocaleString(i18n.language, { dateStyle: 'medium', timeStyle: 'short' }),
        ],
        [t('history.inStory'), picture.story && titleOf(picture.story)],
      ]
    : [];
  return (
    <Modal
      opened={picture !== null}
      onClose={onClose}
      size={880}
      title={t('history.settings')}
      closeButtonProps={{ 'aria-label': t('common.close') }}
    >
      {picture && (
        <div className={classes.details}>
          <Picture path={picture.picture} alt={settings?.prompt ?? ''} ratio={picture.width / picture.height} eager />
          <Stack gap="md">
            <dl className={classes.settings}>
              {rows.map(
                ([name, value]) =>
                  value !== null &&
                  value !== undefined &&
                  value !== '' && (
                    <div key={name}>
                      <dt>{name}</dt>
                      <dd>{value}</dd>
                    </div>
                  ),
              )}
            </dl>
            <ProblemNote error={remove.error ?? fetching.error} />
            <Group gap="xs">
              <Button
                size="xs"
                leftSection={<Icon name="undo" size={16} />}
                onClick={() => {
                  recalled.set(recallOf(picture));
                  go('/picture');
                }}
              >
                {t('panel.recall')}
              </Button>
              {picture.story && (
                <Button size="xs" variant="default" onClick={() => go(`/stories/${picture.story}/board${picture.panel ? `/${picture.panel}` : ''}`)}>
                  {t('history.toStory')}
                </Button>
              )}
              <Button
                size="xs"
                variant="default"
                onClick={() =>
                  fetching.mutate(picture.picture, {
                    onSuccess: (blob) => {
                      offered.set(blob);
                      go('/cast/new');
                    },
                  })
                }
              >
                {t('picture.makeCharacter')}
              </Button>
              <Button
                size="xs"
                variant="default"
                leftSection={<Icon name="download" size={16} />}
                onClick={() =>
                  fetching.mutate(picture.picture, { onSuccess: (blob) => save(blob, fileName(settings?.prompt ?? '', 'png')) })
                }
              >
                {t('common.download')}
              </Button>
              <Button size="xs" variant="subtle" color="red" leftSection={<Icon name="trash" size={16} />} onClick={() => void ask(picture.id)}>
                {t('history.delete')}
              </Button>
            </Group>
          </Stack>
        </div>
      )}
    </Modal>
  );
}
