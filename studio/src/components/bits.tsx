/** Small parts that many screens use. */
import { Alert, Button, Group, getDefaultZIndex, Modal, Paper, Stack, Text, Title } from '@mantine/core';
import { useEffect, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { createStore, useStore } from '../lib/store';
import { Icon, type IconName } from './Icon';
import { useSentence } from './problems';
import classes from './bits.module.css';

export function ScreenTitle({ children, actions }: { children: ReactNode; actions?: ReactNode }) {
  return (
    <Group justify="space-between" align="center" gap="md" className={classes.screenTitle}>
      <Title order={1}>{children}</Title>
      {actions && <Group gap="xs">{actions}</Group>}
    </Group>
  );
}

export function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Paper withBorder radius="lg" p="lg" component="section" aria-label={title}>
      <Title order={2} size="h3" mb="sm">
        {title}
      </Title>
      {children}
    </Paper>
  );
}

interface EmptyProps {
  icon: IconName;
  title: string;
  text: string;
  children?: ReactNode;
  /** In place of the whole screen, whose heading this is. */
  whole?: boolean;
}

export function Empty({ icon, title, text, whole = false, children }: EmptyProps) {
  return (
    <div className={classes.empty}>
      <span className={classes.emptyIcon}>
        <Icon name={icon} size={32} />
      </span>
      <Title order={whole ? 1 : 2} size="h2">
        {title}
      </Title>
      <Text c="dimmed" maw={440} className={classes.emptyText}>
        {text}
      </Text>
      {children && (
        <Group justify="center" gap="xs" mt="md">
          {children}
        </Group>
      )}
    </div>
  );
}

export function ProblemNote({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const { t } = useTranslation();
  const say = useSentence();
  if (!error) return null;
  return (
    <Alert color="red" variant="light" icon={<Icon name="alert" />} role="alert" className={classes.problem}>
      <Group justify="space-between" align="center" gap="sm">
        <Text size="sm" className={classes.problemText}>
          {say(error)}
        </Text>
        {onRetry && (
          <Button size="xs" variant="default" onClick={onRetry}>
            {t('common.retry')}
          </Button>
        )}
      </Group>
    </Alert>
  );
}

interface Question {
  title: string;
  text: ReactNode;
  action: string;
  answer: (yes: boolean) => void;
}

const question = createStore<Question | null>(null);

/** Ask before something that cannot be undone. */
export function confirm(asked: Omit<Question, 'answer'>): Promise<boolean> {
  return new Promise((resolve) => {
    question.set({
      ...asked,
      answer: (yes) => {
        question.set(null);
        resolve(yes);
      },
    });
  });
}

const above = createStore(0);

/** Says that a dialog is open above another, which then stays when Escape closes this one. */
export function useAbove(opened: boolean): void {
  useEffect(() => {
    if (!opened) return;
    above.update((count) => count + 1);
    return () => above.update((count) => count - 1);
  }, [opened]);
}

/** Whether no dialog is open above this one, which is open above `below` others. */
export const useOnTop = (below = 0): boolean => useStore(above) <= below;

export function ConfirmDialog() {
  const { t } = useTranslation();
  const asked = useStore(question);
  useAbove(asked !== null);
  return (
    <Modal
      opened={asked !== null}
      onClose={() => asked?.answer(false)}
      title={asked?.title}
      zIndex={getDefaultZIndex('modal') + 1} // above the dialog that asks, whichever was mounted first
      closeButtonProps={{ 'aria-label': t('common.close') }}
    >
      <Stack gap="lg">
        <Text size="sm">{asked?.text}</Text>
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={() => asked?.answer(false)} data-autofocus>
            {t('common.cancel')}
          </Button>
          <Button color="red.8" onClick={() => asked?.answer(true)}>
            {asked?.action}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
