/** Correct where the subject of a picture is: by a box, or by a brush. */
import { Alert, Button, Group, Modal, SegmentedControl, Stack, Text } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import { useMutation } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { changeRegion } from '../../api/characters';
import type { Character, CharacterPicture } from '../../api/client';
import { useAdvice } from '../../components/advice';
import { ProblemNote } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { loadMask, loadPicture, maskFile, type Shades } from '../../components/paint/maskCanvas';
import { PaintColumns, PaintStage, type PaintTool } from '../../components/paint/PaintStage';
import { BrushWidth, PaintUndo, usePaintKeys } from '../../components/paint/PaintTools';
import { Picture } from '../../components/Picture';
import { brushWidths, continued, startPainting, stroke, undone, type Painting, type Point, type Rgba } from '../../lib/painting';
import { boxAround, type Box, type Size } from '../../lib/region';
import shared from './Character.module.css';
import classes from './CutoutEditor.module.css';

/** Longer side, in pixels, at which a mask is painted. */
const WORKING_SIDE = 1024;
/** The picture is pale where the subject is not. */
const SHADES: Shades = { inside: [0, 0, 0, 0], outside: [255, 255, 255, 209] };
/** The service takes masks that are white on the subject. */
const [SUBJECT, BACKGROUND]: [Rgba, Rgba] = [
  [255, 255, 255, 255],
  [0, 0, 0, 255],
];

function workingSize({ width, height }: Size): Size {
  const scale = Math.min(1, WORKING_SIDE / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** The subject's box, in pixels of the picture. */
function subjectBox({ mask }: Painting, picture: Size): Box | null {
  const box = boxAround(mask.pixels, mask);
  return box && (box.map((value) => Math.round((value * picture.width) / mask.width)) as unknown as Box);
}

interface EditorProps {
  character: Character;
  /** Which picture; its id changes with every correction. */
  place: number;
  onChange: (changed: Character) => void;
  onClose: () => void;
}

export default function CutoutEditor({ character, place, onChange, onClose }: EditorProps) {
  const { t } = useTranslation();
  const narrow = useMediaQuery('(max-width: 900px)');
  const picture = character.pictures[place];
  const number = place + 1;
  return (
    <Modal
      opened={picture !== undefined}
      onClose={onClose}
      size={1040}
      fullScreen={narrow ?? false}
      transitionProps={{ duration: 0 }}
      title={t('cutout.title', { number })}
      closeButtonProps={{ 'aria-label': t('common.close') }}
    >
      {picture && <Editor character={character} picture={picture} number={number} onChange={onChange} onClose={onClose} />}
    </Modal>
  );
}

interface ToolsProps extends Omit<EditorProps, 'place'> {
  picture: CharacterPicture;
  number: number;
}

function Editor({ character, picture, number, onChange, onClose }: ToolsProps) {
  const { t } = useTranslation();
  const [tool, setTool] = useState<PaintTool>('box');
  const [original, setOriginal] = useState<ImageBitmap | null>(null);
  const [painting, setPainting] = useState<Painting | null>(null);
  const [chosenWidth, setWidth] = useState<number | null>(null);
  const [failed, setFailed] = useState(false);
  const [box, setBox] = useState<Box | null>(null);
  /** The mask that is shown; painting waits for the one of this picture. */
  const [proposed, setProposed] = useState<string | null>(null);
  const ready = proposed === picture.mask;
  /** A box that was drawn stays until it is used: the proposal that comes late does not take its place. */
  const drawn = useRef(false);
  const working = workingSize(original ?? { width: 1, height: 1 });
  const widths = brushWidths(working);
  const brush = { value: chosenWidth ?? widths.usual, widths, onChange: setWidth };

  useEffect(() => {
    let current = true;
    const load = async (): Promise<void> => {
      const plain = await loadPicture(picture.original);
      if (!current) return;
      setOriginal((before) => before ?? plain);
      const loaded = startPainting(await loadMask(picture.mask, workingSize(plain)));
      if (!current) return;
      setPainting(loaded);
      setProposed(picture.mask);
      if (!drawn.current) setBox(subjectBox(loaded, plain));
    };
    load().catch(() => current && setFailed(true));
    return () => {
      current = false;
    };
  }, [picture.original, picture.mask]);

  const change = useMutation({
    mutationFn: (stated: { box?: Box; mask?: Blob }) => changeRegion(character.id, picture.id, stated),
    onSuccess: (changed) => {
      drawn.current = false;
      onChange(changed);
    },
  });
  const save = useMutation({
    mutationFn: ({ mask, size }: { mask: Painting['mask']; size: Size }) => maskFile(mask, SUBJECT, BACKGROUND, size),
    onSuccess: (mask) => change.mutate({ mask }),
  });
  const busy = change.isPending || save.isPending;
  const painted = ready && painting !== null && painting.past.length > 0;
  const undo = (): void => {
    if (!busy) setPainting((before) => before && undone(before));
  };
  usePaintKeys(brush, undo);

  const paint = (from: Point, to: Point, erase: boolean, begins: boolean): void =>
    setPainting((before) => before && continued(before, stroke(before.mask, from, to, brush.value, erase), begins));
  const set = (stated: Box, dragged: boolean): void => {
    drawn.current = true;
    setBox(stated);
    if (dragged) change.mutate({ box: stated });
  };
  const say = useAdvice();
  const advice = picture.advice?.sentences ?? [];
  const stage = (
    <>
      <PaintStage
        picture={original}
        working={working}
        mask={painting?.mask ?? null}
        shades={SHADES}
        tool={tool}
        brush={brush.value}
        box={box}
        label={t('cutout.canvas', { number })}
        boxLabel={t('cutout.boxLabel')}
        busy={busy || (tool !== 'box' && !ready)}
        onStroke={paint}
        onBox={set}
      />
      {failed && <Alert color="red">{t('problem.unknown')}</Alert>}
    </>
  );
  return (
    <PaintColumns stage={stage}>
      <Stack gap="md">
        <SegmentedControl
          fullWidth
          aria-label={t('paint.tool')}
          value={tool}
          onChange={setTool}
          data={[
            { value: 'box', label: t('cutout.box') },
            { value: 'add', label: t('cutout.add') },
            { value: 'erase', label: t('cutout.erase') },
          ]}
        />
        <Text size="sm" c="dimmed">
          {t(`cutout.hint.${tool}`)}
        </Text>
        {tool === 'box' ? (
          <Button variant="default" disabled={!box} loading={busy} onClick={() => box && change.mutate({ box })}>
            {t('cutout.applyBox')}
          </Button>
        ) : (
          <>
            <BrushWidth {...brush} />
            <PaintUndo disabled={!painted || busy} onUndo={undo} />
            <Button
              disabled={!painted}
              loading={busy}
              onClick={() => painting && original && save.mutate({ mask: painting.mask, size: original })}
            >
              {t('cutout.applyMask')}
            </Button>
          </>
        )}
        <figure className={`${shared.figure} ${classes.result}`}>
          <Picture path={picture.cutout} alt={t('character.cutoutAlt', { number })} plain eager />
          <figcaption>{t('cutout.result')}</figcaption>
        </figure>
        {advice.map((each) => (
          <Text key={each} size="sm" c="dimmed">
            {say(each)}
          </Text>
        ))}
        <ProblemNote error={change.error ?? save.error} />
        <Group justify="space-between" gap="xs">
          <Button variant="subtle" color="gray" disabled={busy} onClick={() => change.mutate({})} leftSection={<Icon name="undo" />}>
            {t('cutout.again')}
          </Button>
          <Button variant={painted ? 'default' : 'filled'} onClick={onClose}>
            {t('character.done')}
          </Button>
        </Group>
      </Stack>
    </PaintColumns>
  );
}
