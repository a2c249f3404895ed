/** What can be done to characters from several screens. */
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';
import { deleteCharacter } from '../api/characters';
import type { Character } from '../api/client';
import { queryKeys, storiesQuery, storyQuery } from '../api/queries';
import { confirm } from '../components/bits';
import { toast } from '../lib/toasts';

/** So many stories are looked through for mentions of a character. */
const LOOKED_THROUGH = 20;

/** Delete a character after a question that names the stories which mention it. */
export function useDeleteCharacter(done: () => void) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const mutation = useMutation({
    mutationFn: (character: Character) => deleteCharacter(character.id),
    onSuccess: (_, character) => {
      toast(t('cast.deleted', { name: character.name }));
      void cache.invalidateQueries({ queryKey: queryKeys.characters });
      void cache.invalidateQueries({ queryKey: ['story'] });
    },
  });
  const usedIn = async (character: Character): Promise<string[]> => {
    try {
      const heads = (await cache.fetchQuery(storiesQuery)).slice(0, LOOKED_THROUGH);
      const all = await Promise.all(heads.map((head) => cache.fetchQuery(storyQuery(head.id))));
      const mentions = (story: (typeof all)[number]): boolean =>
        story.panels.some((panel) => panel.mentions.some((mention) => mention.character === character.id));
      return all.filter(mentions).map((story) => story.title || t('common.untitled'));
    } catch {
      return []; // The question is asked without them.
    }
  };
  const ask = async (character: Character): Promise<void> => {
    const stories = await usedIn(character);
    const used = stories.length ? ` ${t('cast.deleteUsed', { stories: stories.join(', ') })}` : '';
    const texts = {
      title: t('cast.deleteTitle', { name: character.name }),
      text: t('cast.deleteText') + used,
      action: t('common.delete'),
    };
    if (await confirm(texts)) mutation.mutate(character, { onSuccess: done });
  };
  return { ask, error: mutation.error };
}
