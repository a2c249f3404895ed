/** A story: its title and the views of it. */
import { Button, TextInput } from '@mantine/core';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'wouter';
import { asProblem } from '../../api/problem';
import { useStory, useStoryActions, type StoryActions } from '../../api/queries';
import type { Story } from '../../api/stories';
import { Empty, ProblemNote } from '../../components/bits';
import { Icon } from '../../components/Icon';
import { Loading } from '../../components/onDemand';
import { Pages, Script } from '../screens';
import { Board } from './Board';
import { PartMissing } from './PartMissing';
import classes from './StoryScreen.module.css';

const VIEWS = ['script', 'board', 'pages'] as const;

export interface ViewProps {
  story: Story;
  actions: StoryActions;
}

export function StoryScreen({ id, view, panel }: { id: string; view: string; panel: string | null }) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const query = useStory(id);
  const actions = useStoryActions(id);
  const story = query.data;
  if (query.error && !story) {
    if (asProblem(query.error).status !== 404) {
      return <ProblemNote error={query.error} onRetry={() => void query.refetch()} />;
    }
    return (
      <Empty whole icon="book" title={t('story.gone')} text={t('story.goneText')}>
        <Button onClick={() => go('/')}>{t('story.all')}</Button>
      </Empty>
    );
  }
  if (!story) return <Loading />;
  return (
    <>
      <header className={classes.header}>
        <Link href="/" className={classes.back} aria-label={t('story.all')}>
          <Icon name="left" />
        </Link>
        <Title story={story} actions={actions} />
        <nav className={classes.views} aria-label={t('story.views')}>
          {VIEWS.map((each) => (
            <Link
              key={each}
              href={`/stories/${id}/${each}`}
              className={classes.view}
              aria-current={view === each ? 'page' : undefined}
            >
              {t(`story.${each}`)}
            </Link>
          ))}
        </nav>
      </header>
      <PartMissing panels={story.panels} />
      {view === 'script' && <Script story={story} actions={actions} />}
      {view === 'pages' && <Pages story={story} actions={actions} />}
      {view !== 'script' && view !== 'pages' && <Board story={story} actions={actions} panel={panel} />}
    </>
  );
}

function Title({ story, actions }: ViewProps) {
  const { t } = useTranslation();
  const [draft, setDraft] = useState<{ text: string; base: Story } | null>(null);
  const save = (): void => {
    if (draft && draft.text.trim() && draft.text.trim() !== story.title) {
      actions.changeStory.mutate({ base: draft.base, change: { title: draft.text.trim() } });
    }
    setDraft(null);
  };
  return (
    <h1 className={classes.title}>
      <span className="visually-hidden">{story.title}</span>
      <TextInput
        aria-label={t('story.titleLabel')}
        variant="unstyled"
        classNames={{ input: classes.titleInput ?? '' }}
        value={draft?.text ?? story.title}
        maxLength={200}
        onChange={(event) => setDraft({ text: event.currentTarget.value, base: draft?.base ?? story })}
        onBlur={save}
        onKeyDown={(event) => {
          if (event.key === 'Enter') event.currentTarget.blur();
          if (event.key === 'Escape') setDraft(null);
        }}
      />
    </h1>
  );
}
