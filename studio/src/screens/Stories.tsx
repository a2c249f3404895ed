/** All stories, as covers. */
import { ActionIcon, Alert, Button, FileButton, Group, List, Menu, Modal, Stack, Text, Textarea, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState, type FormEvent } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, useLocation } from 'wouter';
import { queryKeys, storiesQuery } from '../api/queries';
import { stories, type StoryHead } from '../api/stories';
import { confirm, Empty, ProblemNote, ScreenTitle } from '../components/bits';
import { Icon } from '../components/Icon';
import { Picture } from '../components/Picture';
import { useFieldProblem } from '../components/problems';
import { toast } from '../lib/toasts';
import { useExample } from './example';
import classes from './Stories.module.css';

export default function Stories() {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const cache = useQueryClient();
  const query = useQuery(storiesQuery);
  const [creating, setCreating] = useState(false);
  const [notes, setNotes] = useState<string[]>([]);
  const example = useExample();
  const importing = useMutation({
    mutationFn: (file: File) => stories.importFile(file),
    onSuccess: (story) => {
      setNotes(story.notes);
      toast(t('stories.imported'));
      void cache.invalidateQueries({ queryKey: queryKeys.stories });
      void cache.invalidateQueries({ queryKey: queryKeys.characters });
    },
  });
  const importFile = (file: File | null): void => {
    const open = (story: { id: string; notes: string[] }): void => {
      if (story.notes.length === 0) go(`/stories/${story.id}/board`);
    };
    if (file) importing.mutate(file, { onSuccess: open });
  };
  const actions = (
    <>
      <FileButton accept=".zip,application/zip" onChange={importFile}>
        {(props) => (
          <Button {...props} variant="default" leftSection={<Icon name="upload" />} loading={importing.isPending}>
            {t('stories.import')}
          </Button>
        )}
      </FileButton>
      <Button leftSection={<Icon name="plus" />} onClick={() => setCreating(true)}>
        {t('stories.new')}
      </Button>
    </>
  );
  const all = query.data ?? [];
  return (
    <>
      <ScreenTitle actions={all.length > 0 && actions}>{t('stories.title')}</ScreenTitle>
      <Stack gap="md">
        <ProblemNote error={query.error} onRetry={() => void query.refetch()} />
        <ProblemNote error={importing.error} />
        <ProblemNote error={example.error} />
        {notes.length > 0 && (
          <Alert title={t('stories.notes')} withCloseButton closeButtonLabel={t('common.dismiss')} onClose={() => setNotes([])}>
            <List size="sm">
              {notes.map((note) => (
                <List.Item key={note}>{note}</List.Item>
              ))}
            </List>
          </Alert>
        )}
        {query.isSuccess && all.length === 0 && (
          <Empty icon="book" title={t('stories.empty')} text={t('stories.emptyText')}>
            <Button size="md" loading={example.isPending} onClick={() => example.mutate(undefined, { onSuccess: (story) => go(`/stories/${story.id}/board`) })} leftSection={<Icon name="sparkles" />}>
              {t('stories.example')}
            </Button>
            <Button size="md" variant="default" onClick={() => setCreating(true)}>
              {t('stories.new')}
            </Button>
            <FileButton accept=".zip,application/zip" onChange={importFile}>
              {(props) => (
                <Button {...props} size="md" variant="subtle">
                  {t('stories.import')}
                </Button>
              )}
            </FileButton>
          </Empty>
        )}
        <ul className={classes.grid}>
          {all.map((story) => (
            <StoryCard key={story.id} story={story} />
          ))}
        </ul>
      </Stack>
      <NewStory opened={creating} onClose={() => setCreating(false)} />
    </>
  );
}

function StoryCard({ story }: { story: StoryHead }) {
  const { t, i18n } = useTranslation();
  const cache = useQueryClient();
  const title = story.title || t('common.untitled');
  const remove = useMutation({
    mutationFn: () => stories.remove(story.id),
    onSuccess: () => {
      toast(t('stories.deleted'));
      void cache.invalidateQueries({ queryKey: queryKeys.stories });
    },
  });
  const ask = async (): Promise<void> => {
    const texts = { title: t('stories.deleteTitle', { title }), text: t('stories.deleteText'), action: t('common.delete') };
    if (await confirm(texts)) remove.mutate();
  };
  const date = new Date(story.updated * 1000).toLocaleDateString(i18n.language, { day: 'numeric', month: 'short' });
  return (
    <li className={classes.card}>
      <Link href={`/stories/${story.id}/board`} className={classes.link}>
        {story.cover ? (
          <Picture path={story.cover} alt="" className={classes.cover} />
        ) : (
          <span className={classes.noCover}>
            <Icon name="book" size={40} />
          </span>
        )}
        <span className={classes.title}>{title}</span>
        <Text component="span" size="sm" c="dimmed">
          {story.panel_count ? t('stories.panels', { count: story.panel_count }) : t('stories.noPanels')} · {date}
        </Text>
      </Link>
      <Menu>
        <Menu.Target>
          <ActionIcon className={classes.menu} variant="subtle" color="gray" aria-label={t('stories.actions', { title })}>
            <Icon name="dots" />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item color="red" leftSection={<Icon name="trash" />} onClick={() => void ask()}>
            {t('stories.delete')}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      <ProblemNote error={remove.error} />
    </li>
  );
}

function NewStory({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  const { t } = useTranslation();
  const [, go] = useLocation();
  const cache = useQueryClient();
  const [title, setTitle] = useState('');
  const [script, setScript] = useState('');
  const [missing, setMissing] = useState(false);
  const create = useMutation({
    mutationFn: () => stories.create({ title: title.trim(), ...(script.trim() && { script }) }),
    onSuccess: () => void cache.invalidateQueries({ queryKey: queryKeys.stories }),
  });
  const open = (story: { id: string }): void => {
    onClose();
    go(`/stories/${story.id}/script`);
  };
  const about = useFieldProblem(create.error);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setMissing(!title.trim());
    if (title.trim()) create.mutate(undefined, { onSuccess: open });
  };
  const placed = about('title') ?? about('script');
  return (
    <Modal opened={opened} onClose={onClose} title={t('stories.createTitle')} closeButtonProps={{ 'aria-label': t('common.close') }}>
      <form onSubmit={submit}>
        <Stack gap="md">
          <TextInput
            label={t('stories.titleLabel')}
            placeholder={t('stories.titlePlaceholder')}
            value={title}
            maxLength={200}
            onChange={(event) => setTitle(event.currentTarget.value)}
            error={missing && !title.trim() ? t('stories.titleMissing') : about('title')}
            data-autofocus
          />
          <Textarea
            label={t('stories.scriptLabel')}
            description={t('stories.scriptHint')}
            autosize
            minRows={4}
            maxRows={12}
            value={script}
            onChange={(event) => setScript(event.currentTarget.value)}
            error={about('script')}
          />
          {!placed && <ProblemNote error={create.error} />}
          <Group justify="flex-end" gap="xs">
            <Button variant="default" onClick={onClose}>
              {t('common.cancel')}
            </Button>
            <Button type="submit" loading={create.isPending}>
              {t('common.create')}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
