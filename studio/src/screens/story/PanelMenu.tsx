/** What can be done to a panel, as a menu. */
import { ActionIcon, Menu } from '@mantine/core';
import { useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'wouter';
import { fetchPicture } from '../../api/pictures';
import type { StoryActions } from '../../api/queries';
import type { Panel } from '../../api/stories';
import { confirm } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { useSentence } from '../../components/problems';
import { toast } from '../../lib/toasts';
import { offered } from '../character/offered';
import { chosenTake } from './panelState';

interface PanelMenuProps {
  panel: Panel;
  number: number;
  story: string;
  actions: StoryActions;
}

/** A button until it is pressed: a large board has a hundred of these. */
export function PanelMenu(props: PanelMenuProps) {
  const { t } = useTranslation();
  const [wanted, setWanted] = useState(false);
  if (wanted) return <WholeMenu {...props} />;
  return (
    <ActionIcon
      variant="subtle"
      color="gray"
      aria-label={t('board.actions', { number: props.number })}
      aria-haspopup="menu"
      aria-expanded={false}
      onClick={() => setWanted(true)}
    >
      <Icon name="dots" />
    </ActionIcon>
  );
}

/** The menu, which opens by itself when it is first shown. */
function WholeMenu({ panel, number, story, actions }: PanelMenuProps) {
  const { t } = useTranslation();
  const target = useRef<HTMLButtonElement>(null);
  const [opened, setOpened] = useState(false);
  useEffect(() => {
    target.current?.focus(); // which comes back to it when the menu closes
    // After the focus, which the menu remembers when it opens.
    // eslint-disable-next-line react-hooks/set-state-in-effect
    setOpened(true);
  }, []);
  const [, go] = useLocation();
  const say = useSentence();
  const remove = async (): Promise<void> => {
    const count = panel.takes.length;
    const texts = {
      title: t('script.deleteTitle', { number }),
      text: t('script.deleteText', { count }),
      action: t('common.delete'),
    };
    if (await confirm(texts)) {
      actions.removePanel.mutate(panel.id);
      go(`/stories/${story}/board`);
    }
  };
  const hide = (hidden: boolean): void => {
    actions.changePanel.mutate(
      { base: panel, change: { hidden } },
      {
        onSuccess: (base) => {
          const undo = (): void => actions.changePanel.mutate({ base, change: { hidden: false } });
          if (hidden) toast(t('board.hidden', { number }), { undo });
        },
      },
    );
  };
  const take = chosenTake(panel);
  const makeCharacter = async (): Promise<void> => {
    if (!take) return;
    try {
      offered.set(await fetchPicture(take.picture));
      go('/cast/new');
    } catch (error) {
      toast(say(error), { tone: 'error' });
    }
  };
  return (
    <Menu opened={opened} onChange={setOpened}>
      <Menu.Target>
        <ActionIcon ref={target} variant="subtle" color="gray" aria-label={t('board.actions', { number })}>
          <Icon name="dots" />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item leftSection={<Icon name="edit" />} component={Link} href={`/stories/${story}/board/${panel.id}`}>
          {t('board.edit')}
        </Menu.Item>
        <Menu.Item
          leftSection={<Icon name="sparkles" />}
          disabled={panel.hidden}
          onClick={() => actions.draw.mutate({ panels: [panel.id], n: 4 })}
        >
          {t('board.variations')}
        </Menu.Item>
        <Menu.Item leftSection={<Icon name="copy" />} onClick={() => actions.duplicatePanel.mutate(panel.id)}>
          {t('board.duplicate')}
        </Menu.Item>
        <Menu.Item leftSection={<Icon name="users" />} disabled={!take} onClick={() => void makeCharacter()}>
          {t('picture.makeCharacter')}
        </Menu.Item>
        <Menu.Item leftSection={<Icon name={panel.hidden ? 'eye' : 'eyeOff'} />} onClick={() => hide(!panel.hidden)}>
          {t(panel.hidden ? 'board.show' : 'board.hide')}
        </Menu.Item>
        <Menu.Divider />
        <Menu.Item color="red" leftSection={<Icon name="trash" />} onClick={() => void remove()}>
          {t('board.delete')}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
