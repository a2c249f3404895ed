/** The server's state, as hooks. */
import { queryOptions, replaceEqualDeep, useMutation, useQuery, useQueryClient, type QueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { client, data, type Character, type CharacterPage, type ModelPage } from './client';
import { applyStoryEvent, follow, type Preview } from './events';
import { inOrder, newest, withPanel } from './merging';
import { saveFields } from './saving';
import { stories, type Panel, type PanelChange, type Redraw, type Story, type StoryChange, type StoryHead } from './stories';

export const queryKeys = {
  characters: ['characters'] as const,
  stories: ['stories'] as const,
  story: (id: string) => ['story', id] as const,
  preview: (panel: string) => ['preview', panel] as const,
  history: ['history'] as const,
  models: ['models'] as const,
};

const PAGE = 100;
/** Lists are read to their end, within reason. */
const MOST_PAGES = 20;

export const charactersQuery = queryOptions({
  queryKey: queryKeys.characters,
  staleTime: 30_000,
  queryFn: async ({ signal }): Promise<Character[]> => {
    const all: Character[] = [];
    for (let page = 0; page < MOST_PAGES; page++) {
      const after = all.at(-1)?.id;
      const query = after ? { limit: PAGE, after } : { limit: PAGE };
      const answer = await data<CharacterPage>(client.GET('/v1/characters', { params: { query }, signal }));
      all.push(...answer.data);
      if (!answer.has_more) break;
    }
    return all;
  },
});

export const modelsQuery = queryOptions({
  queryKey: queryKeys.models,
  staleTime: 300_000,
  queryFn: ({ signal }) => data<ModelPage>(client.GET('/v1/models', { signal })),
});

export const storiesQuery = queryOptions({
  queryKey: queryKeys.stories,
  queryFn: async ({ signal }): Promise<StoryHead[]> => {
    const all: StoryHead[] = [];
    for (let page = 0; page < MOST_PAGES; page++) {
      const answer = await stories.list(all.at(-1)?.id, signal);
      all.push(...answer.data);
      if (!answer.has_more) break;
    }
    return all;
  },
});

export const storyQuery = (id: string) =>
  queryOptions({
    queryKey: queryKeys.story(id),
    queryFn: ({ signal }) => stories.get(id, signal),
    staleTime: 5_000,
    // Of all that is put into the cache, answers and events.
    structuralSharing: (known, next) => replaceEqualDeep(known, newest(known as Story | undefined, next as Story)),
  });

const NOBODY: Character[] = [];

export const useCast = (): Character[] => useQuery(charactersQuery).data ?? NOBODY;

/** A story that follows what the service tells of it. */
export function useStory(id: string) {
  const cache = useQueryClient();
  const query = useQuery(storyQuery(id));
  const there = query.isSuccess;
  useEffect(() => {
    if (!there) return;
    const seen = cache.getQueryData<Story>(queryKeys.story(id))?.event ?? 0;
    const controller = new AbortController();
    const path = `/v1/stories/${encodeURIComponent(id)}/events`;
    void follow(path, (event) => applyStoryEvent(cache, id, event), controller.signal, seen);
    return () => controller.abort();
  }, [cache, id, there]);
  return query;
}

export function usePreview(panel: string): Preview | null {
  const key = queryKeys.preview(panel);
  return useQuery<Preview | null>({ queryKey: key, queryFn: () => null, enabled: false, staleTime: Infinity }).data ?? null;
}

export const patchStory = (cache: QueryClient, id: string, change: (story: Story) => Story): void => {
  cache.setQueryData<Story>(queryKeys.story(id), (old) => old && change(old));
};

/** Until no change of this scope is on its way. */
function untilSaved(cache: QueryClient, scope: string): Promise<void> {
  const saved = (): boolean => cache.isMutating({ predicate: ({ options }) => options.scope?.id === scope }) === 0;
  if (saved()) return Promise.resolve();
  return new Promise((resolve) => {
    const off = cache.getMutationCache().subscribe(() => {
      if (!saved()) return;
      off();
      resolve();
    });
  });
}

/** What can be done to a story and its panels; each puts the answer into the cache. */
export function useStoryActions(id: string) {
  const cache = useQueryClient();
  const reload = () => cache.invalidateQueries({ queryKey: queryKeys.story(id) });
  const panelChanges = `panels of ${id}`;

  const changeStory = useMutation({
    scope: { id: `values of ${id}` },
    mutationFn: ({ base, change }: { base: Story; change: StoryChange }) =>
      saveFields<StoryHead, StoryChange>({
        base,
        change,
        send: (on, body) => stories.change({ id, revision: on.revision }, body),
        load: () => stories.get(id),
      }),
    onSuccess: (head) => {
      patchStory(cache, id, (story) => ({ ...story, ...head, panels: story.panels }));
      void cache.invalidateQueries({ queryKey: queryKeys.stories });
    },
  });

  const changePanel = useMutation({
    scope: { id: panelChanges }, // one after the other, each on what the last has made
    mutationFn: ({ base, change }: { base: Panel; change: PanelChange }) =>
      saveFields<Panel, PanelChange>({
        base,
        change,
        send: (on, body) => stories.changePanel(id, on, body),
        load: async () => {
          const story = await cache.fetchQuery({ ...storyQuery(id), staleTime: 0 });
          return story.panels.find((panel) => panel.id === base.id) ?? base;
        },
      }),
    onMutate: ({ base, change }) => {
      patchStory(cache, id, (story) => ({
        ...story,
        panels: story.panels.map((panel) => (panel.id === base.id ? { ...panel, ...change } : panel)),
      }));
    },
    onSuccess: (panel) => patchStory(cache, id, (story) => withPanel(story, panel)),
    onError: () => void reload(),
  });

  const addPanels = useMutation({
    mutationFn: ({ prompts, after }: { prompts: (PanelChange & { prompt: string })[]; after?: string | undefined }) =>
      stories.addPanels(id, prompts, after),
    onSuccess: ({ data: added }, { after }) =>
      patchStory(cache, id, (story) => {
        const panels = story.panels.filter((panel) => !added.some((each) => each.id === panel.id));
        const at = after === 'start' ? 0 : after ? panels.findIndex((panel) => panel.id === after) + 1 : panels.length;
        return { ...story, panels: [...panels.slice(0, at), ...added, ...panels.slice(at)] };
      }),
  });

  const removePanel = useMutation({
    mutationFn: (panel: string) => stories.removePanel(id, panel),
    onSuccess: (_, panel) =>
      patchStory(cache, id, (story) => ({ ...story, panels: story.panels.filter((each) => each.id !== panel) })),
  });

  const duplicatePanel = useMutation({
    mutationFn: (panel: string) => stories.duplicatePanel(id, panel),
    onSuccess: () => reload(),
  });

  const order = useMutation({
    mutationFn: (panels: string[]) => stories.order(id, panels),
    onMutate: (panels) => patchStory(cache, id, (story) => ({ ...story, panels: inOrder(story.panels, panels) })),
    onError: () => void reload(),
  });

  const draw = useMutation({
    mutationFn: async ({ panels, n }: { panels?: string[]; n?: number }) => {
      await untilSaved(cache, panelChanges);
      return stories.draw(id, panels, n);
    },
    onSuccess: () => reload(),
  });

  const cancel = useMutation({ mutationFn: (panel: string) => stories.cancel(id, panel), onSettled: () => reload() });

  const redraw = useMutation({
    mutationFn: ({ take, body }: { take: string; body: Redraw }) => stories.redraw(id, take, body),
    onSuccess: () => reload(),
  });

  const removeTake = useMutation({
    mutationFn: (take: string) => stories.removeTake(id, take),
    onSuccess: () => reload(),
  });

  return { changeStory, changePanel, addPanels, removePanel, duplicatePanel, order, draw, cancel, redraw, removeTake };
}

export type StoryActions = ReturnType<typeof useStoryActions>;
