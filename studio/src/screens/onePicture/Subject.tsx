/** What is to be drawn: a picture that was dropped, or characters of a picture that was drawn before. */
import { ActionIcon, Button, Group, Stack, Text, Tooltip } from '@mantine/core';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { thumbnailOf } from '../../api/client';
import { useCast } from '../../api/queries';
import { Icon } from '../../components/Icon';
import { BlobPicture, Picture } from '../../components/Picture';
import { PictureDrop } from '../../components/PictureDrop';
import { Strength } from '../../components/Strength';
import type { RecalledCharacter } from '../../lib/recall';
import classes from '../OnePicture.module.css';

interface DroppedProps {
  picture: Blob | null;
  /** The picture that was drawn before was made of one that is not kept. */
  again: boolean;
  problem: string | undefined;
  onChange: (picture: Blob | null) => void;
}

export function Dropped({ picture, again, problem, onChange }: DroppedProps) {
  const { t } = useTranslation();
  const [refused, setRefused] = useState<string | null>(null);
  const told = refused ?? problem;
  return (
    <>
      {picture ? (
        <div className={classes.source}>
          <BlobPicture blob={picture} alt={t('character.original')} className={classes.sourcePicture} />
          <Button variant="default" size="xs" onClick={() => onChange(null)}>
            {t('common.remove')}
          </Button>
        </div>
      ) : (
        <PictureDrop
          title={t('picture.drop')}
          onPictures={([dropped]) => {
            setRefused(null);
            onChange(dropped ?? null);
          }}
          onRefused={setRefused}
        />
      )}
      {again && !picture && <Text size="sm">{t('picture.dropAgain')}</Text>}
      {told && (
        <Text size="sm" c="var(--mantine-color-error)" role="alert">
          {told}
        </Text>
      )}
    </>
  );
}

interface CharactersProps {
  characters: readonly RecalledCharacter[];
  problem: string | undefined;
  onChange: (characters: RecalledCharacter[] | null) => void;
}

export function Characters({ characters, problem, onChange }: CharactersProps) {
  const { t } = useTranslation();
  const cast = useCast();
  const change = (id: string, values: Partial<RecalledCharacter>): void =>
    onChange(characters.map((each) => (each.id === id ? { ...each, ...values } : each)));
  return (
    <Stack gap="sm" component="section" aria-label={t('panel.strengths')}>
      {characters.length === 0 && (
        <Text size="sm" c="dimmed">
          {t('picture.noCharacters')}
        </Text>
      )}
      {characters.map((each) => {
        const member = cast.find(({ id }) => id === each.id);
        const name = member?.name ?? each.target_word;
        return (
          <div key={each.id} className={classes.character}>
            {member && <Picture path={thumbnailOf(member)} alt="" plain className={classes.face} />}
            <div className={classes.likeness}>
              <Group justify="space-between" gap="xs" wrap="nowrap">
                <Text size="sm" fw={600} truncate>
                  {name}
                </Text>
                <Tooltip label={t('common.remove')}>
                  <ActionIcon
                    variant="subtle"
                    color="gray"
                    aria-label={t('picture.removeCharacter', { name })}
                    onClick={() => onChange(characters.filter(({ id }) => id !== each.id))}
                  >
                    <Icon name="close" size={16} />
                  </ActionIcon>
                </Tooltip>
              </Group>
              <Strength
                label={t('panel.strengthOf', { part: t('picture.strength'), name })}
                part={t('picture.strength')}
                value={each.strength}
                onChange={(strength) => change(each.id, { strength })}
              />
            </div>
          </div>
        );
      })}
      {problem && (
        <Text size="sm" c="var(--mantine-color-error)" role="alert">
          {problem}
        </Text>
      )}
      <div>
        <Button variant="default" size="xs" leftSection={<Icon name="image" size={16} />} onClick={() => onChange(null)}>
          {t('picture.fromPicture')}
        </Button>
      </div>
    </Stack>
  );
}
