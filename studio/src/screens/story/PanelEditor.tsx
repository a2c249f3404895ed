/** One panel, large: its picture and takes on one side, all that shapes it on the other. */
import { ActionIcon, Button, Collapse, Group, Modal, NumberInput, SegmentedControl, Select, Stack, Text, Textarea, TextInput, Tooltip } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { useLocation } from 'wouter';
import type { Character } from '../../api/client';
import { Problem } from '../../api/problem';
import type { StoryActions } from '../../api/queries';
import type { Panel, PanelChange, Story, Take } from '../../api/stories';
import { Advanced } from '../../components/Advanced';
import { confirm, ProblemNote, useAbove, useOnTop } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { MentionField } from '../../components/MentionField';
import { onDemand } from '../../components/onDemand';
import { Picture } from '../../components/Picture';
import { useFieldProblem } from '../../components/problems';
import { lorasText } from '../../lib/loras';
import { asSampler, samplerLabel } from '../../lib/samplers';
import { mentioned, warningsOf } from '../../lib/script';
import { toast } from '../../lib/toasts';
import { PanelMenu } from './PanelMenu';
import { PanelPicture } from './PanelPicture';
import { chosenTake, isDrawing } from './panelState';
import { Strengths } from './Strengths';
import { useDraft } from './useDraft';
import { Warnings } from './Warnings';
import classes from './PanelEditor.module.css';

const RedrawTake = onDemand(() => import('./RedrawTake'), true);

interface EditorProps {
  story: Story;
  panel: Panel | null;
  cast: readonly Character[];
  actions: StoryActions;
}

export default function PanelEditor({ story, panel, cast, actions }: EditorProps) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const narrow = useMediaQuery('(max-width: 900px)');
  const place = story.panels.findIndex((each) => each.id === panel?.id);
  const close = (): void => go(`/stories/${story.id}/board`);
  const step = (by: number): void => {
    const next = story.panels[place + by];
    if (next) go(`/stories/${story.id}/board/${next.id}`, { replace: true });
  };
  const number = place + 1;
  const onTop = useOnTop();
  return (
    <Modal.Root opened={panel !== null} onClose={close} closeOnEscape={onTop} size={1120} fullScreen={narrow ?? false} transitionProps={{ duration: 0 }}>
      <Modal.Overlay />
      <Modal.Content aria-label={t('board.panel', { number })}>
        {panel && (
          <>
            <Modal.Header className={classes.header}>
              <Modal.Title fw={650}>{t('panel.position', { number, count: story.panels.length })}</Modal.Title>
              <Group gap={4}>
                <ActionIcon variant="subtle" color="gray" disabled={place === 0} aria-label={t('panel.previous')} onClick={() => step(-1)}>
                  <Icon name="left" />
                </ActionIcon>
                <ActionIcon
                  variant="subtle"
                  color="gray"
                  disabled={place === story.panels.length - 1}
                  aria-label={t('panel.next')}
                  onClick={() => step(1)}
                >
                  <Icon name="right" />
                </ActionIcon>
                <PanelMenu panel={panel} number={number} story={story.id} actions={actions} />
                <Modal.CloseButton aria-label={t('common.close')} />
              </Group>
            </Modal.Header>
            <Modal.Body className={classes.body}>
              <Looks style={story.style} panel={panel} number={number} actions={actions} />
              <Shape panel={panel} cast={cast} actions={actions} />
            </Modal.Body>
          </>
        )}
      </Modal.Content>
    </Modal.Root>
  );
}

function Looks({ style, panel, number, actions }: { style: string; panel: Panel; number: number; actions: StoryActions }) {
  const { t } = useTranslation();
  const [looked, setLooked] = useState<string | null>(null);
  const [mask, setMask] = useState<string>('');
  const [comparing, setComparing] = useState(false);
  const [redrawn, setRedrawn] = useState<Take | null>(null);
  const take = panel.takes.find((each) => each.id === looked) ?? chosenTake(panel);
  const masks = take?.masks ?? [];
  const people = take?.settings.characters ?? [];
  const shownMask = mask === '' ? null : (masks[Number(mask)] ?? null);
  const choose = (chosen: Take): void => actions.changePanel.mutate({ base: panel, change: { chosen: chosen.id } });
  return (
    <div className={classes.looks}>
      <PanelPicture panel={panel} number={number} take={take} large mask={shownMask} />
      {take && masks.length > 0 && (
        <div>
          <Text size="sm" fw={600} mb={4}>
            {t('panel.mask')}
          </Text>
          <SegmentedControl
            size="xs"
            aria-label={t('panel.mask')}
            value={shownMask ? mask : ''}
            onChange={setMask}
            data={[
              { value: '', label: t('panel.maskOff') },
              ...masks.map((_, place) => ({ value: String(place), label: people[place]?.name ?? String(place + 1) })),
            ]}
          />
        </div>
      )}
      <Group justify="space-between" align="center">
        <Text fw={600}>{t('panel.takes')}</Text>
        {panel.takes.length > 1 && (
          <Button size="compact-sm" variant="subtle" leftSection={<Icon name="compare" size={16} />} onClick={() => setComparing(true)}>
            {t('panel.compare')}
          </Button>
        )}
      </Group>
      {panel.takes.length === 0 ? (
        <Text size="sm" c="dimmed">
          {t('panel.takesEmpty')}
        </Text>
      ) : (
        <ul className={classes.takes}>
          {panel.takes.map((each, place) => (
            <li key={each.id}>
              <button
                type="button"
                className={classes.take}
                aria-pressed={each.id === take?.id}
                aria-label={`${t('panel.take', { number: panel.takes.length - place })}${each.id === panel.chosen ? `, ${t('panel.chosen')}` : ''}`}
                onClick={() => setLooked(each.id)}
              >
                <Picture path={each.thumbnail} alt="" />
                {each.id === panel.chosen && (
                  <span className={classes.chosen}>
                    <Icon name="check" size={14} />
                  </span>
                )}
              </button>
            </li>
          ))}
        </ul>
      )}
      {take && (
        <TakeActions
          style={style}
          panel={panel}
          take={take}
          actions={actions}
          onChoose={() => choose(take)}
          onRedraw={() => setRedrawn(take)}
        />
      )}
      {redrawn && (
        <RedrawTake
          take={redrawn}
          number={panel.takes.length - panel.takes.findIndex((each) => each.id === redrawn.id)}
          actions={actions}
          onClose={() => setRedrawn(null)}
          onStarted={() => setLooked(null)}
        />
      )}
      <Compare panel={panel} number={number} opened={comparing} onClose={() => setComparing(false)} onChoose={choose} />
    </div>
  );
}

interface TakeActionsProps {
  style: string;
  panel: Panel;
  take: Take;
  actions: StoryActions;
  onChoose: () => void;
  onRedraw: () => void;
}

/** A take's prompt has the story's style at its end, which a panel's has not. */
function withoutStyle(prompt: string, style: string): string {
  return style && prompt.endsWith(`, ${style}`) ? prompt.slice(0, -style.length - 2) : prompt;
}

function TakeActions({ style, panel, take, actions, onChoose, onRedraw }: TakeActionsProps) {
  const { t, i18n } = useTranslation();
  const [details, setDetails] = useState(false);
  const recall = (): void => {
    const { settings, seed } = take;
    const characters = settings.characters.map(({ id, strength, face_strength, body_strength }) => ({
      id,
      strength,
      face_strength,
      body_strength,
    }));
    const change: PanelChange = {
      prompt: withoutStyle(settings.prompt, style),
      size: settings.size,
      characters,
      seed,
      seed_locked: true,
      sampler: asSampler(settings.scheduler),
      steps: settings.steps,
      guidance_scale: settings.guidance_scale,
      loras: settings.loras ?? [],
    };
    const { prompt, size, seed: before, seed_locked, sampler, steps, guidance_scale, loras } = panel;
    const back: PanelChange = {
      ...{ prompt, size, characters: panel.characters, seed: before, seed_locked },
      ...{ sampler, steps, guidance_scale, loras },
    };
    actions.changePanel.mutate(
      { base: panel, change },
      {
        onSuccess: (base) =>
          toast(t('panel.recalled'), { undo: () => actions.changePanel.mutate({ base, change: back }) }),
      },
    );
  };
  const remove = async (): Promise<void> => {
    const texts = { title: t('panel.deleteTakeTitle'), text: t('panel.deleteTakeText'), action: t('common.delete') };
    if (await confirm(texts)) actions.removeTake.mutate(take.id);
  };
  const loras = lorasText(take.settings.loras ?? []);
  const drawn = new Date(take.created * 1000).toLocaleString(i18n.language, { dateStyle: 'medium', timeStyle: 'short' });
  return (
    <Stack gap="xs">
      <Group gap="xs">
        {take.id !== panel.chosen && (
          <Button size="xs" leftSection={<Icon name="check" size={16} />} onClick={onChoose}>
            {t('panel.choose')}
          </Button>
        )}
        <Button
          size="xs"
          variant="default"
          leftSection={<Icon name="edit" size={16} />}
          disabled={isDrawing(panel)}
          onPointerEnter={() => void RedrawTake.preload().catch(() => undefined)}
          onClick={onRedraw}
        >
          {t('redraw.open')}
        </Button>
        <Button size="xs" variant="default" leftSection={<Icon name="undo" size={16} />} onClick={recall}>
          {t('panel.recall')}
        </Button>
        <Button size="xs" variant="subtle" color="gray" aria-expanded={details} onClick={() => setDetails(!details)}>
          {t('panel.details')}
        </Button>
        <Tooltip label={t('panel.deleteTake')}>
          <ActionIcon variant="subtle" color="gray" aria-label={t('panel.deleteTake')} onClick={() => void remove()}>
            <Icon name="trash" size={16} />
          </ActionIcon>
        </Tooltip>
      </Group>
      <Collapse expanded={details}>
        <dl className={classes.details}>
          <dt>{t('panel.prompt')}</dt>
          <dd>{take.settings.revised_prompt ?? take.settings.prompt}</dd>
          <dt>{t('panel.seed')}</dt>
          <dd>{take.seed}</dd>
          <dt>{t('panel.size')}</dt>
          <dd>
            {take.width} × {take.height}
          </dd>
          <dt>{t('panel.model')}</dt>
          <dd>
            {take.model} {take.model_version}
          </dd>
          {take.settings.steps !== null && (
            <>
              <dt>{t('panel.steps')}</dt>
              <dd>{take.settings.steps}</dd>
            </>
          )}
          <dt>{t('advanced.guidance_scale')}</dt>
          <dd>{take.settings.guidance_scale}</dd>
          {take.settings.scheduler && (
            <>
              <dt>{t('advanced.sampler')}</dt>
              <dd>{samplerLabel(take.settings.scheduler)}</dd>
            </>
          )}
          {loras && (
            <>
              <dt>{t('advanced.loras')}</dt>
              <dd>{loras}</dd>
            </>
          )}
          <dt>{t('history.drawnAt')}</dt>
          <dd>{drawn}</dd>
        </dl>
      </Collapse>
      <ProblemNote error={actions.removeTake.error} />
    </Stack>
  );
}

interface CompareProps {
  panel: Panel;
  number: number;
  opened: boolean;
  onClose: () => void;
  onChoose: (take: Take) => void;
}

function Compare({ panel, number, opened, onClose, onChoose }: CompareProps) {
  const { t } = useTranslation();
  useAbove(opened);
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      size={1120}
      title={t('panel.compareTitle', { number })}
      closeButtonProps={{ 'aria-label': t('common.close') }}
    >
      <Text size="sm" c="dimmed" mb="md">
        {t('panel.compareHint')}
      </Text>
      <ul className={classes.compare}>
        {panel.takes.map((take, place) => (
          <li key={take.id}>
            <Picture path={take.picture} alt={t('panel.take', { number: panel.takes.length - place })} ratio={take.width / take.height} />
            <Group justify="space-between" mt="xs" gap="xs">
              <Text size="sm" c="dimmed">
                {t('panel.seedOf', { seed: take.seed })}
              </Text>
              {take.id === panel.chosen ? (
                <Text size="sm" fw={600}>
                  {t('panel.chosen')}
                </Text>
              ) : (
                <Button size="compact-sm" onClick={() => onChoose(take)}>
                  {t('panel.choose')}
                </Button>
              )}
            </Group>
          </li>
        ))}
      </ul>
    </Modal>
  );
}

function Shape({ panel, cast, actions }: { panel: Panel; cast: readonly Character[]; actions: StoryActions }) {
  const { t } = useTranslation();
  const change = (values: PanelChange) => actions.changePanel.mutateAsync({ base: panel, change: values });
  const prompt = useDraft<Panel>(panel.prompt, panel, (text, base) =>
    actions.changePanel.mutateAsync({ base, change: { prompt: text } }),
  );
  const caption = useDraft<Panel>(panel.caption, panel, (text, base) =>
    actions.changePanel.mutateAsync({ base, change: { caption: text } }),
  );
  const failed = panel.error && new Problem(panel.error.message, 400, panel.error.code, panel.error.param);
  const problem = actions.draw.error ?? failed;
  const about = useFieldProblem(problem);
  const placed = about('prompt', 'characters', 'size', 'seed', 'sampler', 'steps', 'guidance_scale', 'loras');
  const members = mentioned(prompt.text, cast);
  const drawing = isDrawing(panel);
  const draw = async (n: number): Promise<void> => {
    await prompt.flush();
    actions.draw.mutate({ panels: [panel.id], n });
  };
  return (
    <Stack gap="lg" className={classes.shape}>
      {panel.hidden && (
        <Text size="sm" c="dimmed">
          {t('panel.hiddenNow')}
        </Text>
      )}
      <div>
        <Text size="sm" fw={500} mb={4} aria-hidden="true">
          {t('panel.prompt')}
        </Text>
        <MentionField
          value={prompt.text}
          onChange={prompt.type}
          cast={cast}
          label={t('panel.prompt')}
          placeholder={t('script.placeholder')}
          describedBy={`editor-${panel.id}`}
          onBlur={() => void prompt.flush()}
        />
        <Warnings id={`editor-${panel.id}`} warnings={warningsOf(prompt.text, cast)} problem={about('prompt', 'characters')} />
        <ProblemNote error={prompt.error} onRetry={() => void prompt.flush()} />
      </div>
      <Group gap="xs">
        <Button
          leftSection={<Icon name="redraw" />}
          disabled={panel.hidden || drawing}
          loading={actions.draw.isPending}
          onClick={() => void draw(1)}
        >
          {t(panel.takes.length ? 'board.redraw' : 'board.draw')}
        </Button>
        <Button variant="default" disabled={panel.hidden || drawing} onClick={() => void draw(4)}>
          {t('board.variations')}
        </Button>
        {drawing && (
          <Button variant="subtle" leftSection={<Icon name="stop" />} onClick={() => actions.cancel.mutate(panel.id)}>
            {t('board.cancelDraw')}
          </Button>
        )}
      </Group>
      {!placed && <ProblemNote error={problem} />}
      <Strengths panel={panel} members={members} onChange={change} />
      <Seed key={`${panel.seed}-${panel.seed_locked}`} panel={panel} error={about('seed')} onChange={change} />
      <Size key={panel.size} panel={panel} error={about('size')} onChange={change} />
      <Advanced
        values={{ ...panel, sampler: asSampler(panel.sampler) }}
        onChange={(values) => void change(values)}
        about={about}
      />
      <Textarea
        label={t('panel.caption')}
        description={t('panel.captionHint')}
        autosize
        minRows={2}
        maxLength={1000}
        value={caption.text}
        onChange={(event) => caption.type(event.currentTarget.value)}
        onBlur={() => void caption.flush()}
      />
      <ProblemNote error={caption.error} onRetry={() => void caption.flush()} />
    </Stack>
  );
}

interface FieldProps {
  panel: Panel;
  error: string | undefined;
  onChange: (change: PanelChange) => Promise<unknown>;
}

const MAX_SEED = 4294967295;

function Seed({ panel, error, onChange }: FieldProps) {
  const { t } = useTranslation();
  const [text, setText] = useState<string | number>(panel.seed ?? chosenTake(panel)?.seed ?? '');
  const seed = Number(text);
  const valid = text !== '' && Number.isInteger(seed) && seed >= 0 && seed <= MAX_SEED;
  return (
    <Group align="flex-start" gap="xs" wrap="nowrap">
      <NumberInput
        label={t('panel.seed')}
        description={t(panel.seed_locked ? 'panel.seedLocked' : 'panel.seedFree')}
        value={text}
        min={0}
        max={MAX_SEED}
        clampBehavior="none"
        allowDecimal={false}
        allowNegative={false}
        hideControls
        error={error ?? (text !== '' && !valid ? t('panel.seedInvalid') : undefined)}
        onChange={setText}
        onBlur={() => valid && seed !== panel.seed && panel.seed_locked && void onChange({ seed })}
        className={classes.grow}
      />
      <Tooltip label={t('panel.lock')}>
        <ActionIcon
          size={36}
          mt={46}
          variant={panel.seed_locked ? 'filled' : 'default'}
          aria-label={t('panel.lock')}
          aria-pressed={panel.seed_locked}
          disabled={!valid && !panel.seed_locked}
          onClick={() => void onChange(panel.seed_locked ? { seed_locked: false } : { seed_locked: true, seed })}
        >
          <Icon name={panel.seed_locked ? 'lock' : 'lockOpen'} />
        </ActionIcon>
      </Tooltip>
    </Group>
  );
}

const OWN = 'own';
const SIZE = /^[1-9]\d{1,4}x[1-9]\d{1,4}$/;

function Size({ panel, error, onChange }: FieldProps) {
  const { t } = useTranslation();
  const auto = panel.size === 'auto';
  const [own, setOwn] = useState(!auto);
  const [text, setText] = useState(auto ? '' : panel.size);
  const valid = SIZE.test(text);
  return (
    <Group align="flex-start" gap="xs" grow>
      <Select
        label={t('panel.size')}
        allowDeselect={false}
        value={own ? OWN : 'auto'}
        data={[
          { value: 'auto', label: t('panel.sizeAuto') },
          { value: OWN, label: t('panel.sizeOwn') },
        ]}
        onChange={(value) => {
          setOwn(value === OWN);
          if (value === 'auto' && !auto) void onChange({ size: 'auto' });
        }}
        error={own ? undefined : error}
      />
      {own && (
        <TextInput
          label={t('panel.sizeOwn')}
          placeholder="64x96"
          value={text}
          error={error ?? (text && !valid ? t('panel.sizeInvalid') : undefined)}
          onChange={(event) => setText(event.currentTarget.value.trim().toLowerCase().replace('×', 'x'))}
          onBlur={() => valid && text !== panel.size && void onChange({ size: text })}
        />
      )}
    </Group>
  );
}
