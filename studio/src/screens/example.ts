/** The example story: two characters drawn from prompts, and four panels with them. */
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';
import { createCharacter, drawCandidates } from '../api/characters';
import type { Character } from '../api/client';
import { charactersQuery, queryKeys } from '../api/queries';
import { stories } from '../api/stories';
import { folded, mentionOf } from '../lib/mentions';

export function useExample() {
  const { t } = useTranslation();
  const cache = useQueryClient();
  return useMutation({
    mutationFn: async () => {
      const known = await cache.fetchQuery(charactersQuery);
      const member = async (name: string, prompt: string, word: string): Promise<string> => {
        if (!known.some((each) => folded(each.name) === folded(name))) await drawCharacter(name, prompt, word);
        return mentionOf(name);
      };
      const robot = await member(t('example.cast.robot'), t('example.robotPrompt'), 'robot');
      const cat = await member(t('example.cast.cat'), t('example.catPrompt'), 'cat');
      const prompts = [
        `a photo of ${robot} on the beach`,
        `a photo of ${cat} in the snow`,
        `a photo of ${robot} and ${cat} on the beach`,
        `a photo of ${robot} and ${cat} at night`,
      ];
      const captions = t('example.captions', { returnObjects: true });
      const story = await stories.create({ title: t('example.title') });
      await stories.addPanels(
        story.id,
        prompts.map((prompt, place) => ({ prompt, caption: captions[place] ?? '' })),
      );
      await stories.draw(story.id);
      return story;
    },
    onSuccess: () => {
      void cache.invalidateQueries({ queryKey: queryKeys.stories });
      void cache.invalidateQueries({ queryKey: queryKeys.characters });
    },
  });
}

async function drawCharacter(name: string, prompt: string, word: string): Promise<Character> {
  const { data } = await drawCandidates(prompt, 1);
  // The service describes what the picture shows, which need not be what the prompt has asked for.
  return createCharacter({ name, description: '', target_word: word, pictures: data.map((each) => each.b64_json) });
}
