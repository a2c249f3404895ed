/** A picture to paint a mask over, with a round brush, or to set a box in; by mouse, touch, pen and keyboard. */
import { useElementSize, useViewportSize } from '@mantine/hooks';
import { useEffect, useRef, useState, type KeyboardEvent, type PointerEvent, type ReactNode } from 'react';
import type { Mask, Point } from '../../lib/painting';
import { boxBetween, moveBox, resizeBox, type Box, type Size } from '../../lib/region';
import { shownSize } from '../../lib/scale';
import { show, type Shades } from './maskCanvas';
import classes from './PaintStage.module.css';

export type PaintTool = 'box' | 'add' | 'erase';

const ARROWS: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/** The main button, and the end of a pen that erases. */
const [MAIN, ERASER] = [0, 5];
/** Share of the window's height that a picture takes at most. */
const TALLEST = 0.7;

interface PaintStageProps {
  picture: ImageBitmap | null;
  /** Size in which the mask is painted; it may be smaller than the picture. */
  working: Size;
  /** Without one only a box can be set. */
  mask: Mask | null;
  shades: Shades;
  tool: PaintTool;
  /** Width of the brush in pixels of the mask. */
  brush: number;
  /** In pixels of the picture. */
  box: Box | null;
  label: string;
  boxLabel: string;
  busy?: boolean;
  /** A piece of a stroke, in pixels of the mask; `begins` with its first piece. */
  onStroke: (from: Point, to: Point, erase: boolean, begins: boolean) => void;
  /** The box while it is set; `dragged` when a drag of it has ended. */
  onBox: (box: Box, dragged: boolean) => void;
}

interface Press {
  pointer: number;
  from: Point;
  erase: boolean;
  box: Box | null;
}

export function PaintStage(props: PaintStageProps) {
  const { picture, working, mask, shades, tool, brush, box, label, boxLabel, busy = false, onStroke, onBox } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const press = useRef<Press | null>(null);
  const [pointed, setPointed] = useState<Point | null>(null);
  const { ref, width: room } = useElementSize();
  const viewport = useViewportSize();
  const { width, height } = working;
  useEffect(() => {
    if (canvas.current && picture) show(canvas.current, picture, { width, height }, mask, shades);
  }, [picture, width, height, mask, shades]);

  const pointOf = (event: PointerEvent): Point => {
    const frame = event.currentTarget.getBoundingClientRect();
    const scale = width / frame.width;
    return [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
  };
  const began = (event: PointerEvent): void => {
    if (busy || !picture || press.current || (event.button !== MAIN && event.button !== ERASER)) return;
    if (tool !== 'box' && !mask) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    const from = pointOf(event);
    const erase = tool === 'erase' || event.button === ERASER;
    press.current = { pointer: event.pointerId, from, erase, box: null };
    if (tool !== 'box') onStroke(from, from, erase, true);
  };
  const moved = (event: PointerEvent): void => {
    const to = pointOf(event);
    setPointed(event.pointerType === 'touch' ? null : to);
    const pressed = press.current;
    if (!picture || pressed?.pointer !== event.pointerId) return;
    if (tool !== 'box') {
      onStroke(pressed.from, to, pressed.erase, false);
      pressed.from = to;
      return;
    }
    const scale = picture.width / width;
    const corners = [pressed.from, to].map(([x, y]): Point => [x * scale, y * scale]);
    pressed.box = boxBetween(corners[0]!, corners[1]!, picture) ?? pressed.box;
    if (pressed.box) onBox(pressed.box, false);
  };
  const ended = (event: PointerEvent): void => {
    if (press.current?.pointer !== event.pointerId) return;
    const dragged = press.current.box;
    press.current = null;
    if (tool === 'box' && dragged) onBox(dragged, true);
  };
  const keyed = (event: KeyboardEvent): void => {
    const by = ARROWS[event.key];
    if (!by || !box || !picture) return;
    event.preventDefault();
    const step = Math.max(1, Math.round(Math.max(picture.width, picture.height) / 100));
    onBox((event.shiftKey ? resizeBox : moveBox)(box, by[0] * step, by[1] * step, picture), false);
  };

  const tallest = TALLEST * viewport.height;
  const shown = picture && room > 0 && tallest > 0 ? shownSize(picture.width, picture.height, room, tallest) : null;
  const percent = (value: number, of: number): string => `${(100 * value) / of}%`;
  return (
    <div ref={ref}>
      <div
        className={classes.stage}
        data-busy={busy || undefined}
        data-small={shown?.pixelated || undefined}
        data-tool={tool}
        style={shown ? { width: shown.width, height: shown.height } : undefined}
      >
        <canvas
          ref={canvas}
          className={classes.canvas}
          role="img"
          aria-label={label}
          onPointerDown={began}
          onPointerMove={moved}
          onPointerUp={ended}
          onPointerCancel={ended}
          onPointerLeave={() => setPointed(null)}
        />
        {tool !== 'box' && pointed && (
          <span
            className={classes.ring}
            style={{
              left: percent(pointed[0], width),
              top: percent(pointed[1], height),
              width: percent(brush, width),
              height: percent(brush, height),
            }}
          />
        )}
        {tool === 'box' && box && picture && (
          <div
            className={classes.box}
            role="application"
            tabIndex={0}
            aria-label={boxLabel}
            onKeyDown={keyed}
            style={{
              left: percent(box[0], picture.width),
              top: percent(box[1], picture.height),
              width: percent(box[2] - box[0], picture.width),
              height: percent(box[3] - box[1], picture.height),
            }}
          />
        )}
      </div>
    </div>
  );
}

/** The stage on one side and its tools on the other; below it where there is no room. */
export function PaintColumns({ stage, children }: { stage: ReactNode; children: ReactNode }) {
  return (
    <div className={classes.columns}>
      <div className={classes.side}>{stage}</div>
      {children}
    </div>
  );
}
