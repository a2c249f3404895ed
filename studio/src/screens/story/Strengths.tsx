/** How strongly each mentioned character acts on a panel's picture, and whether it does at all. */
import { Group, Stack, Switch, Text } from '@mantine/core';
import { useRef } from 'react';
import { useTranslation } from 'react-i18next';
import { thumbnailOf, type Character } from '../../api/client';
import type { Panel, PanelChange, PanelCharacter } from '../../api/stories';
import { Picture } from '../../components/Picture';
import { Strength } from '../../components/Strength';
import { acts, broughtBack, leftOut, type Strengths as Values } from '../../lib/strength';
import classes from './Strengths.module.css';

const PARTS = [
  { key: 'face_strength', word: 'face' },
  { key: 'body_strength', word: 'body' },
  { key: 'strength', word: 'strength' },
] as const;

interface StrengthsProps {
  panel: Panel;
  members: Character[];
  onChange: (change: PanelChange) => Promise<unknown>;
}

export function Strengths({ panel, members, onChange }: StrengthsProps) {
  const { t } = useTranslation();
  // How characters acted before they were left out, by id.
  const before = useRef(new Map<string, Values>());
  const settingsOf = (id: string): PanelCharacter =>
    panel.characters.find((each) => each.id === id) ?? { id, strength: 1, face_strength: 1, body_strength: 1 };
  const set = (settings: PanelCharacter): void => {
    const others = panel.characters.filter(
      (each) => each.id !== settings.id && members.some((member) => member.id === each.id),
    );
    void onChange({ characters: [...others, settings] });
  };
  const turn = (settings: PanelCharacter, on: boolean): void => {
    if (on) set(broughtBack(settings, before.current.get(settings.id) ?? drawnWith(panel, settings.id)));
    else {
      before.current.set(settings.id, settings);
      set(leftOut(settings));
    }
  };
  return (
    <section aria-label={t('panel.strengths')}>
      <Text fw={600} mb="xs">
        {t('panel.strengths')}
      </Text>
      {members.length === 0 ? (
        <Text size="sm" c="dimmed">
          {t('panel.strengthsEmpty')}
        </Text>
      ) : (
        <Stack gap="md">
          <Switch
            label={t('panel.with')}
            description={t('panel.withHint')}
            checked={panel.with_characters}
            onChange={(event) => void onChange({ with_characters: event.currentTarget.checked })}
          />
          {members.map((member) => (
            <Member
              key={member.id}
              member={member}
              settings={settingsOf(member.id)}
              disabled={!panel.with_characters}
              onChange={set}
              onTurn={turn}
            />
          ))}
        </Stack>
      )}
    </section>
  );
}

/** How a character acted on the newest take that it acted on. */
function drawnWith(panel: Panel, id: string): Values | null {
  const all = panel.takes.flatMap((take) => take.settings.characters);
  return all.find((each) => each.id === id && acts(each)) ?? null;
}

interface MemberProps {
  member: Character;
  settings: PanelCharacter;
  disabled: boolean;
  onChange: (settings: PanelCharacter) => void;
  onTurn: (settings: PanelCharacter, on: boolean) => void;
}

function Member({ member, settings, disabled, onChange, onTurn }: MemberProps) {
  const { t } = useTranslation();
  const inside = acts(settings);
  return (
    <div className={classes.member} data-out={!inside || disabled || undefined}>
      <Picture path={thumbnailOf(member)} alt="" plain className={classes.face} />
      <Stack gap={4} className={classes.sliders}>
        <Group justify="space-between" gap="xs">
          <Text fw={600} size="sm" className={classes.name}>
            {member.name}
          </Text>
          <Switch
            size="sm"
            labelPosition="left"
            label={t('panel.inPicture')}
            aria-label={t('panel.inPictureOf', { name: member.name })}
            checked={inside}
            disabled={disabled}
            onChange={(event) => onTurn(settings, event.currentTarget.checked)}
          />
        </Group>
        {!inside && !disabled && (
          <Text size="sm" c="dimmed">
            {t('panel.leftOut', { word: member.target_word })}
          </Text>
        )}
        {PARTS.map(({ key, word }) => (
          <Strength
            key={key}
            label={t('panel.strengthOf', { part: t(`panel.${word}`), name: member.name })}
            part={t(`panel.${word}`)}
            value={settings[key]}
            disabled={disabled}
            onChange={(value) => onChange({ ...settings, [key]: value })}
          />
        ))}
      </Stack>
    </div>
  );
}
