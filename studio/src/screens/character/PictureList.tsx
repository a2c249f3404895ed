/** The pictures of a character, each beside its cut-out, with advice. */
import { ActionIcon, Button, Stack, Text, Tooltip } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { addPictures, removePicture } from '../../api/characters';
import type { Character, CharacterPicture } from '../../api/client';
import { queryKeys } from '../../api/queries';
import { useAdvice } from '../../components/advice';
import { ProblemNote } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { onDemand } from '../../components/onDemand';
import { Picture } from '../../components/Picture';
import { PictureDrop } from '../../components/PictureDrop';
import { toast } from '../../lib/toasts';
import classes from './Character.module.css';

const CutoutEditor = onDemand(() => import('./CutoutEditor'), true);

export const MAX_PICTURES = 4;

export function PictureList({ character }: { character: Character }) {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const [refused, setRefused] = useState<string | null>(null);
  const [corrected, setCorrected] = useState<number | null>(null);
  const put = (changed: Character): void => {
    cache.setQueryData<Character[]>(queryKeys.characters, (old) =>
      old?.map((each) => (each.id === changed.id ? changed : each)),
    );
  };
  const room = MAX_PICTURES - character.pictures.length;
  const add = useMutation({
    mutationFn: (files: File[]) => addPictures(character.id, files.slice(0, room)),
    onSuccess: (changed, files) => {
      put(changed);
      if (files.length > room) toast(t('character.tooMany'), { tone: 'error' });
    },
  });
  const remove = useMutation({ mutationFn: (picture: string) => removePicture(character.id, picture), onSuccess: put });
  return (
    <Stack gap="md">
      {character.pictures.map((picture, place) => (
        <PictureCard
          key={place}
          picture={picture}
          number={place + 1}
          last={character.pictures.length === 1}
          onCorrect={() => setCorrected(place)}
          onRemove={() => remove.mutate(picture.id)}
        />
      ))}
      <ProblemNote error={add.error ?? remove.error} />
      {refused && (
        <Text size="sm" c="var(--mantine-color-error)" role="alert">
          {refused}
        </Text>
      )}
      {room > 0 && (
        <PictureDrop
          title={t(add.isPending ? 'character.adding' : 'character.dropMore')}
          multiple
          small
          busy={add.isPending}
          onPictures={(files) => {
            setRefused(null);
            add.mutate(files);
          }}
          onRefused={setRefused}
        />
      )}
      {corrected !== null && (
        <CutoutEditor character={character} place={corrected} onChange={put} onClose={() => setCorrected(null)} />
      )}
    </Stack>
  );
}

interface PictureCardProps {
  picture: CharacterPicture;
  number: number;
  last: boolean;
  onCorrect: () => void;
  onRemove: () => void;
}

function PictureCard({ picture, number, last, onCorrect, onRemove }: PictureCardProps) {
  const { t } = useTranslation();
  const advice = useAdvice();
  const sentences = picture.advice?.sentences ?? [];
  return (
    <div className={classes.card}>
      <div className={classes.pair}>
        <figure className={classes.figure}>
          <Picture path={picture.original} alt={t('character.originalAlt', { number })} marked={picture.face} eager />
          <figcaption>{t('character.original')}</figcaption>
        </figure>
        <figure className={classes.figure}>
          <Picture path={picture.cutout} alt={t('character.cutoutAlt', { number })} plain eager />
          <figcaption>{t('character.cutout')}</figcaption>
        </figure>
      </div>
      <div className={classes.advice}>
        {sentences.length === 0 ? (
          <p className={classes.good}>
            <Icon name="check" size={16} />
            <span>{t('character.adviceGood')}</span>
          </p>
        ) : (
          sentences.map((each) => (
            <p key={each}>
              <Icon name="alert" size={16} />
              <span>{advice(each)}</span>
            </p>
          ))
        )}
        {(picture.face || picture.advice?.face_found === false) && (
          <p className={classes.face}>{t(picture.face ? 'character.face' : 'character.noFace')}</p>
        )}
        <div className={classes.actions}>
          <Button
            variant="default"
            size="xs"
            leftSection={<Icon name="edit" size={16} />}
            aria-label={t('character.correctPicture', { number })}
            onClick={onCorrect}
          >
            {t('character.correct')}
          </Button>
          <Tooltip label={last ? t('character.lastPicture') : t('common.remove')}>
            <ActionIcon
              variant="subtle"
              color="gray"
              data-disabled={last || undefined}
              aria-disabled={last}
              aria-label={t('character.removePicture', { number })}
              onClick={() => !last && onRemove()}
            >
              <Icon name="trash" />
            </ActionIcon>
          </Tooltip>
        </div>
      </div>
    </div>
  );
}
