/** The script: a style line, a line a panel, and what is wrong with a line. */
import { ActionIcon, Button, Group, Stack, Text, TextInput, Tooltip } from '@mantine/core';
import { useCallback, useEffect, useRef, useState, type ClipboardEvent, type KeyboardEvent, type RefObject } from 'react';
import { Trans, useTranslation } from 'react-i18next';
import { Link, useLocation } from 'wouter';
import { thumbnailOf, type Character } from '../../api/client';
import { useCast } from '../../api/queries';
import type { Panel, Story } from '../../api/stories';
import { confirm, Empty, ProblemNote } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { MentionField } from '../../components/MentionField';
import { Picture } from '../../components/Picture';
import { useFieldProblem } from '../../components/problems';
import { mentionOf } from '../../lib/mentions';
import { splitScript, warningsOf } from '../../lib/script';
import { toast } from '../../lib/toasts';
import { RecastMenu } from './RecastMenu';
import type { ViewProps } from './StoryScreen';
import { useDraft } from './useDraft';
import { Warnings } from './Warnings';
import classes from './Script.module.css';

export default function Script({ story, actions }: ViewProps) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const cast = useCast();
  const [focus, setFocus] = useState<string | null>(null);
  const active = useRef<{ insert: (text: string) => void } | null>(null);

  const onFocused = useCallback(() => setFocus(null), []);

  const add = async (prompts: string[], after?: string): Promise<void> => {
    const { data } = await actions.addPanels.mutateAsync({ prompts: prompts.map((prompt) => ({ prompt })), after });
    setFocus(data.at(-1)?.id ?? null);
  };
  const remove = async (panel: Panel, number: number): Promise<void> => {
    const place = story.panels.findIndex((each) => each.id === panel.id);
    const before = story.panels[place - 1]?.id;
    if (panel.takes.length > 0) {
      const count = panel.takes.length;
      const texts = {
        title: t('script.deleteTitle', { number }),
        text: t('script.deleteText', { count }),
        action: t('common.delete'),
      };
      if (!(await confirm(texts))) return;
    }
    await actions.removePanel.mutateAsync(panel.id);
    setFocus(before ?? story.panels[place + 1]?.id ?? null);
    if (panel.takes.length === 0 && (panel.prompt || panel.caption)) {
      const { prompt, caption, characters, size, seed, seed_locked, hidden, balloons, with_characters, sampler, steps, guidance_scale, loras } = panel;
      const again = { prompt, caption, characters, size, seed, seed_locked, hidden, balloons, with_characters, sampler, steps, guidance_scale, loras };
      const undo = (): void => actions.addPanels.mutate({ prompts: [again], after: before ?? 'start' });
      toast(t('script.deleted', { number }), { undo });
    }
  };

  return (
    <div className={classes.columns}>
      <div>
        <StyleLine story={story} actions={actions} />
        {story.panels.length === 0 ? (
          <Empty icon="edit" title={t('script.empty')} text={t('script.emptyText')}>
            <Button leftSection={<Icon name="plus" />} loading={actions.addPanels.isPending} onClick={() => void add([''])}>
              {t('script.add')}
            </Button>
          </Empty>
        ) : (
          <>
            <ol className={classes.lines}>
              {story.panels.map((panel, place) => (
                <Line
                  key={panel.id}
                  panel={panel}
                  number={place + 1}
                  cast={cast}
                  actions={actions}
                  focused={focus === panel.id}
                  activeRef={active}
                  onFocused={onFocused}
                  onAdd={(prompts) => void add(prompts, panel.id)}
                  onRemove={() => void remove(panel, place + 1)}
                  onMove={(by) => setFocus(story.panels[place + by]?.id ?? null)}
                />
              ))}
            </ol>
            <Group justify="space-between" gap="sm" mt="md">
              <Button
                variant="default"
                leftSection={<Icon name="plus" />}
                loading={actions.addPanels.isPending}
                onClick={() => void add([''])}
              >
                {t('script.add')}
              </Button>
              <Button rightSection={<Icon name="right" />} onClick={() => go(`/stories/${story.id}/board`)}>
                {t('script.toBoard')}
              </Button>
            </Group>
            <Text size="sm" c="dimmed" mt="md" className={classes.help}>
              {t('script.help')}
            </Text>
          </>
        )}
        <Stack mt="md">
          <ProblemNote error={actions.addPanels.error ?? actions.removePanel.error} />
        </Stack>
      </div>
      <CastList story={story} actions={actions} cast={cast} onChoose={(character) => active.current?.insert(`${mentionOf(character.name)} `)} />
    </div>
  );
}

function StyleLine({ story, actions }: ViewProps) {
  const { t } = useTranslation();
  const draft = useDraft<Story>(story.style, story, (style, base) =>
    actions.changeStory.mutateAsync({ base, change: { style } }),
  );
  const about = useFieldProblem(draft.error);
  return (
    <Stack gap="xs" mb="lg">
      <TextInput
        label={t('script.style')}
        description={t('script.styleHint')}
        value={draft.text}
        maxLength={1000}
        error={about('style')}
        onChange={(event) => draft.type(event.currentTarget.value)}
        onBlur={() => void draft.flush()}
      />
      {!about('style') && <ProblemNote error={draft.error} onRetry={() => void draft.flush()} />}
    </Stack>
  );
}

interface LineProps {
  panel: Panel;
  number: number;
  cast: readonly Character[];
  actions: ViewProps['actions'];
  focused: boolean;
  activeRef: RefObject<{ insert: (text: string) => void } | null>;
  onFocused: () => void;
  onAdd: (prompts: string[]) => void;
  onRemove: () => void;
  onMove: (by: number) => void;
}

function Line({ panel, number, cast, actions, focused, activeRef, onFocused, onAdd, onRemove, onMove }: LineProps) {
  const { t } = useTranslation();
  const field = useRef<HTMLTextAreaElement>(null);
  const draft = useDraft<Panel>(panel.prompt, panel, (prompt, base) =>
    actions.changePanel.mutateAsync({ base, change: { prompt } }),
  );
  const about = useFieldProblem(draft.error);
  const warnings = warningsOf(draft.text, cast);
  const note = `warnings-${panel.id}`;
  const grave = warnings.some((each) => each.kind !== 'unread');

  useEffect(() => {
    if (!focused) return;
    field.current?.focus();
    onFocused();
  }, [focused, onFocused]);

  const insert = (text: string): void => {
    const at = field.current?.selectionStart ?? draft.text.length;
    draft.type(draft.text.slice(0, at) + text + draft.text.slice(field.current?.selectionEnd ?? at));
    requestAnimationFrame(() => {
      field.current?.focus();
      field.current?.setSelectionRange(at + text.length, at + text.length);
    });
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    const { selectionStart, selectionEnd, value } = event.currentTarget;
    if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      const rest = value.slice(selectionEnd).trim();
      if (rest) draft.type(value.slice(0, selectionStart).trimEnd());
      void draft.flush();
      onAdd([rest]);
    } else if (event.key === 'Backspace' && value === '') {
      event.preventDefault();
      onRemove();
    } else if (event.key === 'ArrowUp' && selectionStart === 0) {
      onMove(-1);
    } else if (event.key === 'ArrowDown' && selectionStart === value.length) {
      onMove(1);
    }
  };
  const onPaste = (event: ClipboardEvent<HTMLTextAreaElement>): void => {
    const lines = splitScript(event.clipboardData.getData('text/plain'));
    if (lines.length < 2) return;
    event.preventDefault();
    const { selectionStart, selectionEnd, value } = event.currentTarget;
    const [first = '', ...others] = lines;
    draft.type(value.slice(0, selectionStart) + first + value.slice(selectionEnd));
    void draft.flush();
    onAdd(others);
  };

  return (
    <li className={classes.line} data-hidden={panel.hidden || undefined}>
      <span className={classes.number}>{number}</span>
      <div className={classes.text}>
        <MentionField
          fieldRef={field}
          value={draft.text}
          onChange={draft.type}
          cast={cast}
          label={t('script.line', { number })}
          placeholder={t('script.placeholder')}
          invalid={grave || draft.error !== null}
          describedBy={warnings.length || draft.error ? note : undefined}
          onFocus={() => {
            activeRef.current = { insert };
          }}
          onBlur={() => void draft.flush()}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
        />
        <Warnings id={note} warnings={warnings} problem={about('prompt')} />
        {!about('prompt') && <ProblemNote error={draft.error} onRetry={() => void draft.flush()} />}
      </div>
      <Tooltip label={t('common.delete')}>
        <ActionIcon
          variant="subtle"
          color="gray"
          size="lg"
          aria-label={t('script.delete', { number })}
          onClick={onRemove}
        >
          <Icon name="trash" />
        </ActionIcon>
      </Tooltip>
    </li>
  );
}

interface CastListProps extends ViewProps {
  cast: readonly Character[];
  onChoose: (character: Character) => void;
}

function CastList({ story, actions, cast, onChoose }: CastListProps) {
  const { t } = useTranslation();
  return (
    <aside className={classes.cast} aria-label={t('script.castTitle')}>
      <h2 className={classes.castTitle}>{t('script.castTitle')}</h2>
      <Text size="sm" c="dimmed" mb="sm">
        {t(cast.length ? 'script.castHint' : 'script.castEmpty')}
      </Text>
      <ul className={classes.castList}>
        {cast.map((character) => (
          <li key={character.id} className={classes.castRow}>
            <button
              type="button"
              className={classes.member}
              onMouseDown={(event) => event.preventDefault()}
              onClick={() => onChoose(character)}
            >
              <Picture path={thumbnailOf(character)} alt="" plain className={classes.memberFace} />
              <span className={classes.memberName}>
                <span className="visually-hidden">{t('script.mention')} </span>
                {character.name}
              </span>
              <span className={classes.memberWord}>{character.target_word}</span>
            </button>
            <RecastMenu story={story} actions={actions} cast={cast} character={character} />
          </li>
        ))}
      </ul>
      <Button
        component={Link}
        href="/cast/new"
        variant="subtle"
        size="compact-sm"
        leftSection={<Icon name="plus" size={16} />}
      >
        <Trans i18nKey="cast.new" />
      </Button>
    </aside>
  );
}
