/** What the page in the address bar needs, asked for before anything is rendered. */
import type { QueryClient } from '@tanstack/react-query';
import { preloadPicture } from './api/pictures';
import { charactersQuery, modelsQuery, storyQuery } from './api/queries';
import { preloadScreen } from './screens/screens';
import { chosenTake } from './screens/story/panelState';

/** So many panels of a board fit into a large window. */
const FIRST = 12;

export function prefetch(cache: QueryClient, hash: string): void {
  const path = hash.replace(/^#/, '') || '/';
  preloadScreen(path);
  void cache.prefetchQuery(modelsQuery);
  const [, id, view] = /^\/stories\/([^/]+)(?:\/([^/]+))?/.exec(path) ?? [];
  if (!id) return;
  void cache.prefetchQuery(charactersQuery);
  const story = cache.fetchQuery(storyQuery(decodeURIComponent(id)));
  if (view === 'script') return void story.catch(() => undefined);
  story.then(
    ({ panels }) => {
      for (const panel of panels.filter((each) => !each.hidden).slice(0, FIRST)) {
        const take = chosenTake(panel);
        if (take) preloadPicture(take.thumbnail);
      }
    },
    () => undefined, // The screen tells it.
  );
}
