/** Correct where the subject of a picture is: by a box, or by a brush. */
import { Alert, Button, Group, Modal, SegmentedControl, Slider, Stack, Text } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import { useMutation } from '@tanstack/react-query';
import { useEffect, useRef, useState, type KeyboardEvent, type PointerEvent } from 'react';
import { useTranslation } from 'react-i18next';
import { changeRegion } from '../../api/characters';
import type { Character, CharacterPicture } from '../../api/client';
import { useAdvice } from '../../components/advice';
import { ProblemNote } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { Picture } from '../../components/Picture';
import { boxBetween, moveBox, resizeBox, type Box } from '../../lib/region';
import { loadPicture, maskFile, paint, showRegion, subjectBox, withMask, type Region } from './regionCanvas';
import shared from './Character.module.css';
import classes from './CutoutEditor.module.css';

type Tool = 'box' | 'add' | 'erase';
type Point = [number, number];
const ARROWS: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

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
  const [tool, setTool] = useState<Tool>('box');
  const [width, setWidth] = useState(6);
  const [region, setRegion] = useState<Region | null>(null);
  const [failed, setFailed] = useState(false);
  const [box, setBox] = useState<Box | null>(null);
  const [painted, setPainted] = useState(false);
  const canvas = useRef<HTMLCanvasElement>(null);
  const from = useRef<Point | null>(null);
  /** The mask that is shown; painting waits for the one of this picture. */
  const [proposed, setProposed] = useState<string | null>(null);
  const ready = proposed === picture.mask;
  /** A box that was drawn stays until it is used: the proposal that comes late does not take its place. */
  const drawn = useRef(false);

  useEffect(() => {
    let current = true;
    const load = async (): Promise<void> => {
      const plain = await loadPicture(picture.original);
      if (!current) return;
      setRegion((before) => before ?? plain);
      const loaded = await withMask(plain, picture.mask);
      if (!current) return;
      setRegion(loaded);
      setProposed(picture.mask);
      setPainted(false);
      if (!drawn.current) setBox(subjectBox(loaded));
    };
    load().catch(() => current && setFailed(true));
    return () => {
      current = false;
    };
  }, [picture.original, picture.mask]);
  useEffect(() => {
    if (canvas.current && region) showRegion(canvas.current, region);
  }, [region]);

  const change = useMutation({
    mutationFn: (stated: { box?: Box; mask?: Blob }) => changeRegion(character.id, picture.id, stated),
    onSuccess: (changed) => {
      drawn.current = false;
      onChange(changed);
    },
  });
  const save = useMutation({ mutationFn: maskFile, onSuccess: (mask) => change.mutate({ mask }) });
  const busy = change.isPending || save.isPending;

  const pointOf = (event: PointerEvent<HTMLCanvasElement>): Point => {
    const shown = event.currentTarget.getBoundingClientRect();
    const factor = event.currentTarget.width / shown.width;
    return [(event.clientX - shown.left) * factor, (event.clientY - shown.top) * factor];
  };
  const draw = (to: Point): void => {
    if (!region || !from.current) return;
    if (tool === 'box') {
      const [one, other] = [from.current, to].map(([x, y]): Point => [x / region.scale, y / region.scale]);
      if (one && other) setBox(boxBetween(one, other, region.size));
      return;
    }
    const side = Math.max(region.mask.width, region.mask.height);
    paint(region, from.current, to, (width / 100) * side, tool === 'erase');
    from.current = to;
    setPainted(true);
    if (canvas.current) showRegion(canvas.current, region);
  };
  const press = (event: PointerEvent<HTMLCanvasElement>): void => {
    if (busy || event.button !== 0 || (tool !== 'box' && !ready)) return;
    drawn.current ||= tool === 'box';
    event.currentTarget.setPointerCapture(event.pointerId);
    from.current = pointOf(event);
    if (tool !== 'box') draw(from.current);
  };
  const release = (): void => {
    if (!from.current) return;
    from.current = null;
    if (tool === 'box' && box) change.mutate({ box });
  };
  const keyed = (event: KeyboardEvent): void => {
    const by = ARROWS[event.key];
    if (!by || !box || !region) return;
    event.preventDefault();
    drawn.current = true;
    const step = Math.max(1, Math.round(Math.max(region.size.width, region.size.height) / 100));
    setBox((event.shiftKey ? resizeBox : moveBox)(box, by[0] * step, by[1] * step, region.size));
  };
  const percent = (value: number, of: number): string => `${(100 * value) / of}%`;
  const say = useAdvice();
  const advice = picture.advice?.sentences ?? [];
  return (
    <div className={classes.columns}>
      <div>
        <div
          className={classes.stage}
          data-busy={busy || undefined}
          data-small={(region && Math.max(region.size.width, region.size.height) <= 256) || undefined}
          style={{ width: region ? `min(100%, calc(70vh * ${region.size.width / region.size.height}))` : '100%' }}
        >
          <canvas
            ref={canvas}
            className={classes.canvas}
            role="img"
            aria-label={t('cutout.canvas', { number })}
            onPointerDown={press}
            onPointerMove={(event) => from.current && draw(pointOf(event))}
            onPointerUp={release}
            onPointerCancel={release}
          />
          {tool === 'box' && box && region && (
            <div
              className={classes.box}
              role="application"
              tabIndex={0}
              aria-label={t('cutout.boxLabel')}
              onKeyDown={keyed}
              style={{
                left: percent(box[0], region.size.width),
                top: percent(box[1], region.size.height),
                width: percent(box[2] - box[0], region.size.width),
                height: percent(box[3] - box[1], region.size.height),
              }}
            />
          )}
        </div>
        {failed && <Alert color="red">{t('problem.unknown')}</Alert>}
      </div>
      <Stack gap="md">
        <SegmentedControl
          fullWidth
          aria-label={t('cutout.tool')}
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
            <div>
              <Text size="sm" fw={500} id="brush-size">
                {t('cutout.brush')}
              </Text>
              <Slider
                min={1}
                max={20}
                value={width}
                onChange={setWidth}
                label={null}
                thumbProps={{ 'aria-labelledby': 'brush-size' }}
              />
            </div>
            <Button disabled={!painted || !ready} loading={busy} onClick={() => region && save.mutate(region)}>
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
    </div>
  );
}
