/** The picture of a panel, or what there is of it. */
import { Progress, Text } from '@mantine/core';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { usePlace } from '../../api/jobs';
import { usePreview } from '../../api/queries';
import type { Panel, Take } from '../../api/stories';
import { Base64Picture, Picture } from '../../components/Picture';
import type { Place } from '../../lib/queue';
import { isDrawing, stateOf } from './panelState';
import classes from './PanelPicture.module.css';

interface PanelPictureProps {
  panel: Panel;
  number: number;
  take: Take | null;
  /** The picture itself, not its thumbnail. */
  large?: boolean;
  mask?: string | null;
  children?: ReactNode;
}

export function PanelPicture({ panel, number, take, large = false, mask = null, children }: PanelPictureProps) {
  const { t } = useTranslation();
  const preview = usePreview(panel.id);
  const drawing = isDrawing(panel);
  const alt = panel.prompt || t('board.panel', { number });
  const ratio = take ? Math.min(2, Math.max(0.5, take.width / take.height)) : 1;
  return (
    <div className={classes.box}>
      {drawing && preview ? (
        <Base64Picture encoded={preview.b64_json} alt={alt} ratio={ratio} />
      ) : take ? (
        <Picture path={large ? take.picture : take.thumbnail} alt={alt} ratio={ratio} mask={mask} eager={large} />
      ) : (
        <div className={classes.blank} data-drawing={drawing || undefined} aria-hidden="true">
          {number}
        </div>
      )}
      {drawing && <Drawing panel={panel} />}
      {children}
    </div>
  );
}

function Drawing({ panel }: { panel: Panel }) {
  const { t } = useTranslation();
  const { step = 0, total = 0, left = 0 } = panel.job ?? {};
  const running = stateOf(panel) === 'running' && total > 0;
  const place = usePlace(running ? null : (panel.job?.id ?? null));
  const text = running ? t('board.step', { step, total }) : t(...waitingWords(place));
  return (
    <div className={classes.drawing}>
      <Text size="xs" fw={600}>
        {text}
      </Text>
      {left > 1 && (
        <Text size="xs" c="dimmed">
          {t('board.left', { count: left })}
        </Text>
      )}
      <Progress value={running ? (100 * step) / total : 0} size="sm" aria-label={text} />
    </div>
  );
}

function waitingWords(place: Place | null) {
  if (!place) return ['board.state.queued'] as const;
  if (place.again) return ['board.again'] as const;
  return place.before === 0 ? (['board.next'] as const) : (['board.before', { count: place.before }] as const);
}
