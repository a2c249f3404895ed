/** The pages: how panels lie on paper, their captions and balloons, and the way out as files. */
import { ActionIcon, Button, Group, Menu, SegmentedControl, Select, Stack, Switch, Text, Textarea, TextInput } from '@mantine/core';
import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { useLocation } from 'wouter';
import type { StoryActions } from '../../api/queries';
import { stories, type Balloon, type ExportFormat, type Pages as PagesSettings, type Panel, type Story } from '../../api/stories';
import { Empty, ProblemNote } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { Picture } from '../../components/Picture';
import { fileName, save } from '../../lib/files';
import { layoutPages, PAPERS, type Page } from '../../lib/layout';
import { toast } from '../../lib/toasts';
import { Balloons } from './Balloons';
import { chosenTake } from './panelState';
import type { ViewProps } from './StoryScreen';
import { useDraft } from './useDraft';
import classes from './Pages.module.css';

const FORMATS = ['pdf', 'cbz', 'zip', 'png', 'story'] as const;
const ENDINGS: Record<ExportFormat, string> = { pdf: 'pdf', cbz: 'cbz', zip: 'zip', png: 'png', story: 'story.zip' };

export default function Pages({ story, actions }: ViewProps) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const [selected, setSelected] = useState<string | null>(null);
  const visible = story.panels.filter((panel) => !panel.hidden);
  // What is not drawn is on no page.
  const panels = visible.filter((panel) => panel.takes.length > 0);
  const paper = PAPERS[story.pages.paper];
  const pages = layoutPages(panels.length, story.pages.panels_per_page, story.pages.title_page, paper);
  const panel = panels.find((each) => each.id === selected) ?? panels[0];
  const undrawn = visible.length - panels.length;
  const number = (id: string): number => story.panels.findIndex((each) => each.id === id) + 1;

  if (!panel) {
    return (
      <Empty icon="page" title={t('pages.empty')} text={t('pages.emptyText')}>
        <Button onClick={() => go(`/stories/${story.id}/${visible.length ? 'board' : 'script'}`)}>
          {t(visible.length ? 'story.board' : 'board.toScript')}
        </Button>
      </Empty>
    );
  }
  return (
    <>
      <Group justify="space-between" align="flex-end" gap="md" mb="lg">
        <Layout story={story} actions={actions} />
        <Export story={story} />
      </Group>
      <Stack mb="md">
        <ProblemNote error={actions.changeStory.error} />
        {undrawn > 0 && (
          <Text size="sm" c="dimmed">
            {t('pages.undrawn', { count: undrawn })}
          </Text>
        )}
      </Stack>
      <div className={classes.columns}>
        <ol className={classes.pages}>
          {pages.map((page) => (
            <li key={page.kind === 'title' ? 'title' : page.number}>
              <PageSheet page={page} story={story} panels={panels} selected={panel.id} onSelect={setSelected} number={number} />
            </li>
          ))}
        </ol>
        <PanelWords key={panel.id} panel={panel} number={number(panel.id)} actions={actions} />
      </div>
    </>
  );
}

function Layout({ story, actions }: ViewProps) {
  const { t } = useTranslation();
  const set = (part: Partial<PagesSettings>): void =>
    actions.changeStory.mutate({ base: story, change: { pages: { ...story.pages, ...part } } });
  return (
    <Group align="flex-end" gap="lg" role="group" aria-label={t('pages.layout')}>
      <div>
        <Text size="sm" fw={500} mb={4}>
          {t('pages.perPage')}
        </Text>
        <SegmentedControl
          aria-label={t('pages.perPage')}
          value={String(story.pages.panels_per_page)}
          data={['1', '2', '3', '4', '5', '6']}
          onChange={(value) => set({ panels_per_page: Number(value) })}
        />
      </div>
      <Select
        label={t('pages.paper')}
        w={128}
        allowDeselect={false}
        value={story.pages.paper}
        data={(['a4', 'letter', 'square'] as const).map((value) => ({ value, label: t(`pages.papers.${value}`) }))}
        onChange={(value) => value && set({ paper: value })}
      />
      <Switch
        mb={8}
        label={t('pages.titlePage')}
        checked={story.pages.title_page}
        onChange={(event) => set({ title_page: event.currentTarget.checked })}
      />
    </Group>
  );
}

function Export({ story }: { story: Story }) {
  const { t } = useTranslation();
  const run = useMutation({
    mutationFn: async (format: ExportFormat) => {
      const { blob, name } = await stories.export(story.id, format);
      const given = name ?? fileName(story.title, ENDINGS[format]);
      save(blob, given);
      return given;
    },
    onSuccess: (name) => toast(t('pages.exported', { name })),
  });
  return (
    <Stack gap="xs">
      <Menu width={264}>
        <Menu.Target>
          <Button leftSection={<Icon name="download" />} loading={run.isPending}>
            {t('pages.export')}
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          {FORMATS.map((format) => (
            <Menu.Item key={format} onClick={() => run.mutate(format)}>
              <Text size="sm" fw={600}>
                {t(`pages.formats.${format}`)}
              </Text>
              <Text size="xs" c="dimmed">
                {t(`pages.formats.${format}Text`)}
              </Text>
            </Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
      <ProblemNote error={run.error} />
    </Stack>
  );
}

interface SheetProps {
  page: Page;
  story: Story;
  panels: Panel[];
  selected: string;
  onSelect: (panel: string) => void;
  number: (panel: string) => number;
}

const share = (value: number): string => `${(100 * value).toFixed(3)}%`;

function PageSheet({ page, story, panels, selected, onSelect, number }: SheetProps) {
  const { t } = useTranslation();
  const paper = PAPERS[story.pages.paper];
  const name = page.kind === 'title' ? t('pages.titlePageName') : t('pages.page', { number: page.number });
  return (
    <figure className={classes.figure}>
      <div className={classes.sheet} style={{ aspectRatio: paper.width / paper.height }}>
        {page.kind === 'title' ? (
          <div className={classes.titlePage}>
            <p>{story.title}</p>
            {story.style && <p className={classes.style}>{story.style}</p>}
          </div>
        ) : (
          page.cells.map((cell) => {
            const panel = panels[cell.panel];
            if (!panel) return null;
            const take = chosenTake(panel);
            return (
              <button
                key={panel.id}
                type="button"
                className={classes.cell}
                style={{ left: share(cell.x), top: share(cell.y), width: share(cell.width), height: share(cell.height) }}
                aria-pressed={panel.id === selected}
                onClick={() => onSelect(panel.id)}
              >
                <span className="visually-hidden">{t('pages.selectPanel', { number: number(panel.id) })}</span>
                <span className={classes.cellPicture}>
                  {take && (
                    <span
                      className={classes.fitted}
                      style={{ aspectRatio: take.width / take.height, maxWidth: `${(100 * take.width) / take.height}cqh` }}
                    >
                      <Picture path={take.thumbnail} alt="" ratio={take.width / take.height} fill />
                      <Balloons balloons={panel.balloons} />
                    </span>
                  )}
                </span>
                {panel.caption && <span className={classes.caption}>{panel.caption}</span>}
              </button>
            );
          })
        )}
      </div>
      <figcaption className={classes.pageName}>{name}</figcaption>
    </figure>
  );
}

function PanelWords({ panel, number, actions }: { panel: Panel; number: number; actions: StoryActions }) {
  const { t } = useTranslation();
  const caption = useDraft<Panel>(panel.caption, panel, (text, base) =>
    actions.changePanel.mutateAsync({ base, change: { caption: text } }),
  );
  const balloons = useDraft<Panel>(JSON.stringify(panel.balloons), panel, (text, base) =>
    actions.changePanel.mutateAsync({ base, change: { balloons: JSON.parse(text) as Balloon[] } }),
  );
  const shown = JSON.parse(balloons.text) as Balloon[];
  const set = (next: Balloon[]): void => balloons.type(JSON.stringify(next));
  const take = chosenTake(panel);
  return (
    <section className={classes.words} aria-label={t('pages.balloonsTitle')}>
      <h2 className={classes.wordsTitle}>{t('pages.selected', { number })}</h2>
      <Text size="sm" c="dimmed">
        {t('pages.balloonsHint')}
      </Text>
      {take && (
        <div className={classes.stage} style={{ aspectRatio: take.width / take.height }}>
          <Picture path={take.picture} alt={panel.prompt} ratio={take.width / take.height} fill eager />
          <Balloons balloons={shown} onChange={set} />
        </div>
      )}
      {shown.map((balloon, place) => (
        <Group key={place} gap="xs" wrap="nowrap" align="flex-end">
          <TextInput
            className={classes.grow}
            label={`${t('pages.balloonText')} ${place + 1}`}
            value={balloon.text}
            maxLength={300}
            onChange={(event) => set(shown.map((each, at) => (at === place ? { ...each, text: event.currentTarget.value } : each)))}
          />
          <ActionIcon
            variant="subtle"
            color="gray"
            size={36}
            aria-label={t('pages.deleteBalloon', { number: place + 1 })}
            onClick={() => set(shown.filter((_, at) => at !== place))}
          >
            <Icon name="trash" />
          </ActionIcon>
        </Group>
      ))}
      {take && (
        <Button
          variant="default"
          leftSection={<Icon name="bubble" />}
          onClick={() =>
            set([...shown, { text: t('pages.balloonDefault'), x: 0.5, y: 0.15 + 0.2 * (shown.length % 4), tail_x: 0.5, tail_y: 0.45 + 0.1 * (shown.length % 4) }])
          }
        >
          {t('pages.addBalloon')}
        </Button>
      )}
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
      <ProblemNote error={caption.error ?? balloons.error} />
    </section>
  );
}
