/** The board: all panels as a grid, with what can be done to each. */
import {
  closestCenter,
  DndContext,
  DragOverlay,
  KeyboardSensor,
  PointerSensor,
  useSensor,
  useSensors,
  type Announcements,
} from '@dnd-kit/core';
import { arrayMove, rectSortingStrategy, SortableContext, sortableKeyboardCoordinates, useSortable } from '@dnd-kit/sortable';
import { CSS } from '@dnd-kit/utilities';
import { ActionIcon, Button, Checkbox, Group, Stack, Text } from '@mantine/core';
import { memo, useMemo, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'wouter';
import type { Character } from '../../api/client';
import { useFollowQueue } from '../../api/jobs';
import { picturesLoading } from '../../api/pictures';
import { useCast, type StoryActions } from '../../api/queries';
import type { Panel } from '../../api/stories';
import { Empty, ProblemNote } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { PromptText } from '../../components/MentionField';
import { useSentence } from '../../components/problems';
import { Problem } from '../../api/problem';
import { useStore } from '../../lib/store';
import { toast } from '../../lib/toasts';
import { useGradually } from '../../lib/useGradually';
import { PanelEditor } from '../screens';
import { PanelMenu } from './PanelMenu';
import { PanelPicture } from './PanelPicture';
import { chosenTake, isDrawing, stateOf } from './panelState';
import type { ViewProps } from './StoryScreen';
import classes from './Board.module.css';

export function Board({ story, actions, panel: opened }: ViewProps & { panel: string | null }) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const cast = useCast();
  const [withHidden, setWithHidden] = useState(false);
  const [dragged, setDragged] = useState<string | null>(null);
  const sensors = useSensors(
    useSensor(PointerSensor, { activationConstraint: { distance: 6 } }),
    useSensor(KeyboardSensor, { coordinateGetter: sortableKeyboardCoordinates }),
  );
  const numbers = new Map(story.panels.map((panel, place) => [panel.id, place + 1]));
  const hidden = story.panels.filter((panel) => panel.hidden).length;
  const shown = useMemo(() => story.panels.filter((panel) => withHidden || !panel.hidden), [story.panels, withHidden]);
  // Every card follows this list: a new one renders them all.
  const ids = useMemo(() => shown.map((panel) => panel.id), [shown]);
  const changed = story.panels.filter((panel) => panel.dirty && !panel.hidden && !isDrawing(panel)).length;

  const drawing = story.panels.filter(isDrawing).length;
  useFollowQueue(story.panels.some((panel) => stateOf(panel) === 'queued'));
  // What is below the window has time until the pictures in it are there.
  const loading = useStore(picturesLoading);
  const rendered = useGradually(shown.length, !loading);
  if (story.panels.length === 0) {
    return (
      <Empty icon="image" title={t('board.empty')} text={t('board.emptyText')}>
        <Button onClick={() => go(`/stories/${story.id}/script`)}>{t('board.toScript')}</Button>
      </Empty>
    );
  }

  const move = (from: string, to: string): void => {
    const ids = story.panels.map((panel) => panel.id);
    const order = arrayMove(ids, ids.indexOf(from), ids.indexOf(to));
    actions.order.mutate(order, {
      onSuccess: () => toast(t('board.moved'), { undo: () => actions.order.mutate(ids) }),
    });
  };
  const number = (id: string | number): number => numbers.get(String(id)) ?? 0;
  const place = (id: string | number): number => shown.findIndex((panel) => panel.id === id) + 1;
  const count = shown.length;
  const announcements: Announcements = {
    onDragStart: ({ active }) => t('board.announce.start', { number: number(active.id) }),
    onDragOver: ({ active, over }) =>
      over ? t('board.announce.over', { number: number(active.id), place: place(over.id), count }) : undefined,
    onDragEnd: ({ active, over }) =>
      over ? t('board.announce.end', { number: number(active.id), place: place(over.id), count }) : undefined,
    onDragCancel: ({ active }) => t('board.announce.cancel', { number: number(active.id) }),
  };
  const draggedPanel = story.panels.find((panel) => panel.id === dragged);

  return (
    <>
      <Group justify="space-between" gap="sm" mb="lg">
        <Group gap="md">
          <Button
            leftSection={<Icon name={changed ? 'sparkles' : drawing ? 'clock' : 'check'} />}
            disabled={changed === 0}
            loading={actions.draw.isPending}
            onClick={() =>
              actions.draw.mutate(
                {},
                {
                  onSuccess: ({ skipped }) => {
                    const [first] = skipped;
                    if (first) toast(t('board.skipped', { count: skipped.length, reason: first.reason }), { tone: 'error' });
                  },
                },
              )
            }
          >
            {changed
              ? t('board.drawChanged', { count: changed })
              : drawing
                ? t('board.drawing', { count: drawing })
                : t('board.allDrawn')}
          </Button>
          {drawing > 1 && (
            <Button
              variant="subtle"
              leftSection={<Icon name="stop" />}
              onClick={() => story.panels.filter(isDrawing).forEach((panel) => actions.cancel.mutate(panel.id))}
            >
              {t('board.stopAll')}
            </Button>
          )}
          {hidden > 0 && (
            <Checkbox
              checked={withHidden}
              onChange={(event) => setWithHidden(event.currentTarget.checked)}
              label={t('board.filterHidden', { count: hidden })}
            />
          )}
        </Group>
      </Group>
      <Stack mb="md">
        <ProblemNote error={actions.draw.error ?? actions.order.error ?? actions.changePanel.error ?? actions.duplicatePanel.error} />
      </Stack>
      <DndContext
        sensors={sensors}
        collisionDetection={closestCenter}
        accessibility={{ announcements, screenReaderInstructions: { draggable: t('board.help') } }}
        onDragStart={({ active }) => setDragged(String(active.id))}
        onDragCancel={() => setDragged(null)}
        onDragEnd={({ active, over }) => {
          setDragged(null);
          if (over && over.id !== active.id) move(String(active.id), String(over.id));
        }}
      >
        <SortableContext items={ids} strategy={rectSortingStrategy}>
          <ol className={classes.grid}>
            {shown.slice(0, rendered).map((panel) => (
              <Card
                key={panel.id}
                panel={panel}
                number={number(panel.id)}
                story={story.id}
                cast={cast}
                actions={actions}
              />
            ))}
          </ol>
        </SortableContext>
        <DragOverlay>
          {draggedPanel && (
            <div className={classes.overlay}>
              <PanelPicture panel={draggedPanel} number={number(draggedPanel.id)} take={chosenTake(draggedPanel)} />
            </div>
          )}
        </DragOverlay>
      </DndContext>
      <Text size="sm" c="dimmed" mt="lg">
        {t('board.help')}
      </Text>
      {opened && (
        <PanelEditor
          key={opened}
          story={story}
          actions={actions}
          cast={cast}
          panel={story.panels.find((panel) => panel.id === opened) ?? null}
        />
      )}
    </>
  );
}

interface CardProps {
  panel: Panel;
  number: number;
  story: string;
  cast: readonly Character[];
  actions: StoryActions;
}

const Card = memo(function Card({ panel, number, story, cast, actions }: CardProps) {
  const { t } = useTranslation();
  const { setNodeRef, setActivatorNodeRef, attributes, listeners, transform, transition, isDragging } = useSortable({
    id: panel.id,
  });
  const say = useSentence();
  const state = stateOf(panel);
  const { error } = panel;
  const draw = t(panel.takes.length ? 'board.redraw' : 'board.draw');
  return (
    <li
      ref={setNodeRef}
      className={classes.card}
      style={{ transform: CSS.Translate.toString(transform), transition }}
      data-dragging={isDragging || undefined}
      data-hidden={panel.hidden || undefined}
    >
      <Link href={`/stories/${story}/board/${panel.id}`} className={classes.open}>
        <span className="visually-hidden">{t('board.open', { number })}</span>
        <PanelPicture panel={panel} number={number} take={chosenTake(panel)} />
      </Link>
      <div className={classes.text}>
        <span className={classes.number}>{number}</span>
        <p className={classes.prompt} title={panel.prompt}>
          <PromptText text={panel.prompt} cast={cast} />
        </p>
      </div>
      {state === 'failed' && error && (
        <p className={classes.error}>{say(new Problem(error.message, 400, error.code, error.param))}</p>
      )}
      <div className={classes.foot}>
        <span className={classes.state} data-state={state}>
          {t(panel.hidden ? 'board.state.hidden' : `board.state.${state}`)}
          {panel.takes.length > 1 && ` · ${t('board.takes', { count: panel.takes.length })}`}
        </span>
        {isDrawing(panel) ? (
          <span className={classes.hint} data-hint={t('board.cancelDraw')}>
            <ActionIcon variant="subtle" color="gray" aria-label={t('board.cancelDraw')} onClick={() => actions.cancel.mutate(panel.id)}>
              <Icon name="stop" />
            </ActionIcon>
          </span>
        ) : (
          <span className={classes.hint} data-hint={draw}>
            <ActionIcon
              variant="subtle"
              aria-label={`${draw}: ${t('board.panel', { number })}`}
              disabled={panel.hidden}
              onClick={() => actions.draw.mutate({ panels: [panel.id] })}
            >
              <Icon name="redraw" />
            </ActionIcon>
          </span>
        )}
        <PanelMenu panel={panel} number={number} story={story} actions={actions} />
        <button
          type="button"
          ref={setActivatorNodeRef}
          {...attributes}
          {...listeners}
          className={classes.grip}
          aria-label={t('board.drag', { number })}
        >
          <Icon name="grip" />
        </button>
      </div>
    </li>
  );
});
