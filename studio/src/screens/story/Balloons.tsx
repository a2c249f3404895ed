/** Speech balloons over a picture; with `onChange` they and their tails are placed by pointer and keyboard. */
import { useRef, type KeyboardEvent, type PointerEvent } from 'react';
import { useTranslation } from 'react-i18next';
import type { Balloon } from '../../api/stories';
import classes from './Balloons.module.css';

interface BalloonsProps {
  balloons: readonly Balloon[];
  onChange?: (balloons: Balloon[]) => void;
}

const STEP = 0.02;
const inside = (share: number): number => Math.min(1, Math.max(0, Math.round(share * 1000) / 1000));

export function Balloons({ balloons, onChange }: BalloonsProps) {
  const { t } = useTranslation();
  const box = useRef<HTMLDivElement>(null);
  const change = (place: number, part: Partial<Balloon>): void =>
    onChange?.(balloons.map((each, at) => (at === place ? { ...each, ...part } : each)));

  const handlers = (place: number, what: 'balloon' | 'tail') => {
    const balloon = balloons[place];
    if (!onChange || !balloon) return {};
    const at = what === 'balloon' ? { x: balloon.x, y: balloon.y } : { x: balloon.tail_x, y: balloon.tail_y };
    const put = (x: number, y: number): void =>
      change(place, what === 'balloon' ? { x: inside(x), y: inside(y) } : { tail_x: inside(x), tail_y: inside(y) });
    return {
      onPointerDown: (event: PointerEvent<HTMLElement>) => {
        event.preventDefault();
        event.currentTarget.focus();
        event.currentTarget.setPointerCapture(event.pointerId);
      },
      onPointerMove: (event: PointerEvent<HTMLElement>) => {
        const area = box.current?.getBoundingClientRect();
        if (!area || !event.currentTarget.hasPointerCapture(event.pointerId)) return;
        put(at.x + event.movementX / area.width, at.y + event.movementY / area.height);
      },
      onKeyDown: (event: KeyboardEvent<HTMLElement>) => {
        const steps: Record<string, [number, number]> = {
          ArrowLeft: [-STEP, 0],
          ArrowRight: [STEP, 0],
          ArrowUp: [0, -STEP],
          ArrowDown: [0, STEP],
        };
        const step = steps[event.key];
        if (!step) return;
        event.preventDefault();
        put(at.x + step[0], at.y + step[1]);
      },
    };
  };

  return (
    <div ref={box} className={classes.layer}>
      <svg className={classes.tails} viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
        {balloons.map((each, place) => (
          <Tail key={place} balloon={each} />
        ))}
      </svg>
      {balloons.map((each, place) => {
        const style = { left: `${100 * each.x}%`, top: `${100 * each.y}%` };
        if (!onChange) {
          return (
            <span key={place} className={classes.balloon} style={style}>
              {each.text}
            </span>
          );
        }
        const tail = { left: `${100 * each.tail_x}%`, top: `${100 * each.tail_y}%` };
        return (
          <span key={place}>
            <button
              type="button"
              className={classes.balloon}
              style={style}
              aria-label={t('pages.balloon', { number: place + 1, text: each.text })}
              {...handlers(place, 'balloon')}
            >
              {each.text || '…'}
            </button>
            <button
              type="button"
              className={classes.tail}
              style={tail}
              aria-label={t('pages.tail', { number: place + 1 })}
              {...handlers(place, 'tail')}
            />
          </span>
        );
      })}
    </div>
  );
}

/** A wedge from the middle of the balloon to the end of its tail. */
function Tail({ balloon }: { balloon: Balloon }) {
  const [x, y, endX, endY] = [balloon.x, balloon.y, balloon.tail_x, balloon.tail_y].map((share) => share * 100) as [
    number,
    number,
    number,
    number,
  ];
  const length = Math.hypot(endX - x, endY - y) || 1;
  const [sideX, sideY] = [(-(endY - y) / length) * 3, ((endX - x) / length) * 3];
  return (
    <polygon points={`${x + sideX},${y + sideY} ${endX},${endY} ${x - sideX},${y - sideY}`} vectorEffect="non-scaling-stroke" />
  );
}
