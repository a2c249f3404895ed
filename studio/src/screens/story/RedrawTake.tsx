/** Redraw a part of a take, as a new take: what changes is painted over, or set as a rectangle. */
import { Alert, Button, Group, Modal, NumberInput, SegmentedControl, Slider, Stack, Text, Textarea } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import { useMutation } from '@tanstack/react-query';
import { useEffect, useId, useState } from 'react';
import { useTranslation } from 'react-i18next';
import type { StoryActions } from '../../api/queries';
import type { Take } from '../../api/stories';
import { confirm, ProblemNote, useAbove, useOnTop } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { loadPicture, maskFile, type Shades } from '../../components/paint/maskCanvas';
import { PaintColumns, PaintStage, type PaintTool } from '../../components/paint/PaintStage';
import { BrushWidth, PaintUndo, usePaintKeys } from '../../components/paint/PaintTools';
import { useFieldProblem } from '../../components/problems';
import { blobToBase64 } from '../../lib/base64';
import { brushWidths, changed, continued, fillBox, isEmpty, isFull, newMask, paintedShare, startPainting, stroke, undone, type Mask, type Point } from '../../lib/painting';
import { KEPT, MAX_PROMPT, redrawBody, REDRAWN, redrawFaults, STRENGTH, type RedrawForm } from '../../lib/redraw';
import { middleBox, type Box } from '../../lib/region';
import { toast } from '../../lib/toasts';
import { BoxFields } from './BoxFields';

/** What is redrawn is tinted. */
const SHADES: Shades = { inside: [224, 0, 122, 150], outside: [0, 0, 0, 0] };
const VARIATIONS = 4;
const PERCENT: Intl.NumberFormatOptions = { style: 'percent', maximumSignificantDigits: 2 };

interface RedrawProps {
  take: Take;
  /** Of the take among those of its panel. */
  number: number;
  actions: StoryActions;
  onClose: () => void;
  /** The service has begun. */
  onStarted: () => void;
}

export default function RedrawTake({ take, number, actions, onClose, onStarted }: RedrawProps) {
  const { t } = useTranslation();
  const narrow = useMediaQuery('(max-width: 900px)');
  const [touched, setTouched] = useState(false);
  useAbove(true);
  const onTop = useOnTop(1);
  const close = async (): Promise<void> => {
    const texts = { title: t('redraw.discardTitle'), text: t('redraw.discardText'), action: t('redraw.discard') };
    if (!touched || (await confirm(texts))) onClose();
  };
  return (
    <Modal
      opened
      onClose={() => void close()}
      closeOnEscape={onTop}
      size={1120}
      fullScreen={narrow ?? false}
      transitionProps={{ duration: 0 }}
      title={t('redraw.title', { number })}
      closeButtonProps={{ 'aria-label': t('common.close') }}
    >
      <Editor
        take={take}
        actions={actions}
        onTouched={setTouched}
        onStarted={() => {
          onClose();
          onStarted();
        }}
      />
    </Modal>
  );
}

interface EditorProps extends Pick<RedrawProps, 'take' | 'actions' | 'onStarted'> {
  /** Whether anything is painted. */
  onTouched: (touched: boolean) => void;
}

function Editor({ take, actions, onTouched, onStarted }: EditorProps) {
  const { t, i18n } = useTranslation();
  const { settings } = take;
  const [picture, setPicture] = useState<ImageBitmap | null>(null);
  const [failed, setFailed] = useState(false);
  const [painting, setPainting] = useState(() => startPainting(newMask(take)));
  const [tool, setTool] = useState<PaintTool>('add');
  const [box, setBox] = useState<Box>(middleBox(take));
  const widths = brushWidths(take);
  const [width, setWidth] = useState(widths.usual);
  const [form, setForm] = useState<RedrawForm>({ prompt: settings.revised_prompt, strength: STRENGTH.usual, seed: '' });
  const [checked, setChecked] = useState(false);
  const strengthNote = useId();

  useEffect(() => {
    let current = true;
    loadPicture(take.picture).then(
      (loaded) => current && setPicture(loaded),
      () => current && setFailed(true),
    );
    return () => {
      current = false;
    };
  }, [take.picture]);
  const { mask } = painting;
  const empty = isEmpty(mask);
  useEffect(() => onTouched(!empty), [onTouched, empty]);

  const send = useMutation({
    mutationFn: async (n: number) => {
      const part = isFull(mask) ? null : await blobToBase64(await maskFile(mask, REDRAWN, KEPT, mask));
      return actions.redraw.mutateAsync({ take: take.id, body: redrawBody(form, settings, part, n) });
    },
    onSuccess: ({ skipped: [first, ...others] }) => {
      if (first) toast(t('board.skipped', { count: 1 + others.length, reason: first.reason }), { tone: 'error' });
      onStarted();
    },
  });
  const faults = checked ? redrawFaults(form, mask) : [];
  const about = useFieldProblem(send.error);
  const submit = (n: number): void => {
    setChecked(true);
    if (redrawFaults(form, mask).length === 0) send.mutate(n);
  };
  const paint = (next: Mask): void => setPainting(changed(painting, next));
  const undo = (): void => setPainting(undone);
  const brush = { value: width, widths, onChange: setWidth };
  usePaintKeys(brush, undo);
  const drag = (from: Point, to: Point, erase: boolean, begins: boolean): void =>
    setPainting((before) => continued(before, stroke(before.mask, from, to, width, erase), begins));
  const setRectangle = (stated: Box, dragged: boolean): void => {
    setBox(stated);
    if (dragged) paint(fillBox(mask, stated, false));
  };

  const maskProblem = faults.includes('mask') ? t('redraw.nothing') : about('mask');
  const strengthProblem = about('strength');
  const words = settings.characters.map(({ target_word, name }) => t('redraw.wordOf', { word: target_word, name }));
  const stage = (
    <Stack gap="xs">
      <PaintStage
        picture={picture}
        working={take}
        mask={mask}
        shades={SHADES}
        tool={tool}
        brush={width}
        box={box}
        label={t('redraw.canvas')}
        boxLabel={t('redraw.boxLabel')}
        busy={send.isPending}
        onStroke={drag}
        onBox={setRectangle}
      />
      <Text size="sm" c="dimmed" ta="center" role="status">
        {t('redraw.share', { percent: paintedShare(mask).toLocaleString(i18n.language, PERCENT) })}
      </Text>
      {maskProblem && <FieldProblem text={maskProblem} />}
      {failed && <Alert color="red">{t('problem.unknown')}</Alert>}
    </Stack>
  );
  return (
    <PaintColumns stage={stage}>
      <Stack gap="md">
        <SegmentedControl
          fullWidth
          aria-label={t('paint.tool')}
          value={tool}
          onChange={setTool}
          data={(['add', 'erase', 'box'] as const).map((value) => ({ value, label: t(`redraw.${value}`) }))}
        />
        <Text size="sm" c="dimmed">
          {t(`redraw.hint.${tool}`)}
        </Text>
        {tool === 'box' ? (
          <BoxFields
            box={box}
            size={take}
            onChange={setBox}
            onAdd={() => paint(fillBox(mask, box, false))}
            onErase={() => paint(fillBox(mask, box, true))}
          />
        ) : (
          <BrushWidth {...brush} />
        )}
        <PaintUndo disabled={painting.past.length === 0} onUndo={undo}>
          <Button size="xs" variant="default" disabled={empty} onClick={() => paint(newMask(take))}>
            {t('redraw.clear')}
          </Button>
          <Button size="xs" variant="default" disabled={isFull(mask)} onClick={() => paint(newMask(take, true))}>
            {t('redraw.everything')}
          </Button>
        </PaintUndo>
        <Textarea
          label={t('redraw.prompt')}
          description={words.length ? t('redraw.words', { count: words.length, words: words.join(', ') }) : t('redraw.promptHint')}
          autosize
          minRows={2}
          maxRows={8}
          maxLength={MAX_PROMPT}
          value={form.prompt}
          error={faults.includes('prompt') ? t('redraw.promptMissing') : about('prompt', 'characters')}
          onChange={(event) => setForm({ ...form, prompt: event.currentTarget.value })}
        />
        <div>
          <Group justify="space-between" gap="xs">
            <Text size="sm" fw={500}>
              {t('redraw.strength')}
            </Text>
            <Text size="sm" c="dimmed">
              {form.strength.toFixed(2)}
            </Text>
          </Group>
          <Slider
            min={STRENGTH.least}
            max={STRENGTH.most}
            step={0.05}
            label={null}
            thumbLabel={t('redraw.strength')}
            thumbProps={{ 'aria-describedby': strengthNote }}
            value={form.strength}
            onChange={(strength) => setForm({ ...form, strength })}
          />
          <div id={strengthNote}>
            <Text size="xs" c="dimmed" mt={8}>
              {t('redraw.strengthHint')}
            </Text>
            {strengthProblem && <FieldProblem text={strengthProblem} />}
          </div>
        </div>
        <NumberInput
          label={t('panel.seed')}
          placeholder={t('picture.seedNew')}
          value={form.seed}
          clampBehavior="none"
          allowDecimal={false}
          allowNegative={false}
          hideControls
          error={faults.includes('seed') ? t('panel.seedInvalid') : about('seed')}
          onChange={(seed) => setForm({ ...form, seed })}
        />
        {!about('mask', 'prompt', 'characters', 'strength', 'seed') && <ProblemNote error={send.error} />}
        <Group gap="xs">
          <Button leftSection={<Icon name="redraw" />} disabled={!picture} loading={send.isPending} onClick={() => submit(1)}>
            {t('redraw.go')}
          </Button>
          <Button variant="default" disabled={!picture || send.isPending} onClick={() => submit(VARIATIONS)}>
            {t('board.variations')}
          </Button>
        </Group>
      </Stack>
    </PaintColumns>
  );
}

function FieldProblem({ text }: { text: string }) {
  return (
    <Text size="sm" c="var(--mantine-color-error)" role="alert">
      {text}
    </Text>
  );
}
