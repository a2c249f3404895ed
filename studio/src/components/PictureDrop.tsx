/** Where pictures are dropped, pasted or chosen. */
import { Button, FileButton, Text } from '@mantine/core';
import { useEffect, useState, type DragEvent } from 'react';
import { useTranslation } from 'react-i18next';
import { PICTURE_TYPES } from '../lib/files';
import { Icon } from './Icon';
import classes from './PictureDrop.module.css';

interface PictureDropProps {
  title: string;
  multiple?: boolean;
  small?: boolean;
  busy?: boolean;
  onPictures: (pictures: File[]) => void;
  onRefused: (sentence: string) => void;
}

export function PictureDrop({ title, multiple = false, small = false, busy = false, onPictures, onRefused }: PictureDropProps) {
  const { t } = useTranslation();
  const [over, setOver] = useState(false);
  const take = (files: File[]): void => {
    const pictures = files.filter((file) => PICTURE_TYPES.includes(file.type));
    const other = files.find((file) => !PICTURE_TYPES.includes(file.type));
    if (other) onRefused(t('character.notPicture', { name: other.name }));
    if (pictures.length) onPictures(multiple ? pictures : pictures.slice(0, 1));
  };
  useEffect(() => {
    const paste = (event: ClipboardEvent): void => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0 || busy) return;
      event.preventDefault();
      take(files);
    };
    window.addEventListener('paste', paste);
    return () => window.removeEventListener('paste', paste);
  });
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setOver(false);
    take([...event.dataTransfer.files]);
  };
  return (
    <div
      className={classes.drop}
      data-over={over || undefined}
      data-small={small || undefined}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      <Icon name="image" size={small ? 24 : 40} />
      <Text fw={600}>{title}</Text>
      <Text size="sm" c="dimmed">
        {t('character.dropText')}
      </Text>
      <FileButton<boolean>
        multiple={multiple}
        onChange={(files) => take([files].flat().filter((file) => file !== null))}
        accept={PICTURE_TYPES.join(',')}
      >
        {(props) => (
          <Button {...props} variant="default" size="xs" loading={busy}>
            {t('character.choose')}
          </Button>
        )}
      </FileButton>
      <Text size="xs" c="dimmed">
        {t('character.formats')}
      </Text>
    </div>
  );
}
