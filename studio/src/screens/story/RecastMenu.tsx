/** Puts another character in a character's place, in the whole story. */
import { ActionIcon, Menu } from '@mantine/core';
import { useTranslation } from 'react-i18next';
import type { Character } from '../../api/client';
import type { StoryActions } from '../../api/queries';
import type { Panel, PanelChange, Story } from '../../api/stories';
import { Icon } from '../../components/Icon';
import { useSentence } from '../../components/problems';
import { recast } from '../../lib/recast';
import { toast } from '../../lib/toasts';

interface RecastMenuProps {
  story: Story;
  actions: StoryActions;
  cast: readonly Character[];
  character: Character;
}

/** Nothing where the story does not mention the character, or nobody else is in the cast. */
export function RecastMenu({ story, actions, cast, character }: RecastMenuProps) {
  const { t } = useTranslation();
  const say = useSentence();
  const tell = (error: unknown): void => toast(say(error), { tone: 'error' });
  const names = cast.map(({ name }) => name);
  const others = cast.filter(({ id }) => id !== character.id);
  const mentions = story.panels.some((panel) => panel.mentions.some((mention) => mention.character === character.id));
  if (!mentions || others.length === 0) return null;
  const save = (changes: readonly { base: Panel; change: PanelChange }[]): Promise<Panel[]> =>
    Promise.all(changes.map((each) => actions.changePanel.mutateAsync(each)));
  const replaceBy = async (other: Character): Promise<void> => {
    const changes = story.panels.flatMap((base) => {
      const change = recast(base, character, other, names);
      return change ? [{ base, change }] : [];
    });
    const saved = await save(changes);
    const back = changes.flatMap(({ base: { prompt, characters } }, place) => {
      const base = saved[place];
      return base ? [{ base, change: { prompt, characters } }] : [];
    });
    const undo = (): void => void save(back).catch(tell);
    toast(t('script.recastDone', { name: other.name, count: changes.length }), { undo });
  };
  return (
    <Menu>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" aria-label={t('script.recast', { name: character.name })}>
          <Icon name="swap" size={16} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>{t('script.recastBy', { name: character.name })}</Menu.Label>
        {others.map((other) => (
          <Menu.Item key={other.id} onClick={() => void replaceBy(other).catch(tell)}>
            {other.name}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}
