/**
 * Parts of the studio whose code is loaded when it is first wanted.
 *
 * Not `lazy`: React shows what was suspended no sooner than 300 ms after the last fallback.
 */
import { Button, Loader, Text, Title } from '@mantine/core';
import { useEffect, useState, type ComponentType } from 'react';
import { useTranslation } from 'react-i18next';
import { Icon } from './Icon';
import classes from './onDemand.module.css';

export type OnDemand<P> = ComponentType<P> & { preload: () => Promise<void> };

/** A component that loads itself; `preload` begins before it is shown. `quiet`: nothing stands in its place meanwhile. */
export function onDemand<P extends object>(load: () => Promise<{ default: ComponentType<P> }>, quiet = false): OnDemand<P> {
  let Loaded: ComponentType<P> | null = null;
  let loading: Promise<void> | null = null;
  const preload = (): Promise<void> => {
    loading ??= load().then(
      (module) => {
        Loaded = module.default;
      },
      (error: unknown) => {
        loading = null;
        throw error;
      },
    );
    return loading;
  };
  function Part(props: P) {
    const [state, setState] = useState<'waiting' | 'there' | 'failed'>(Loaded ? 'there' : 'waiting');
    useEffect(() => {
      if (state !== 'waiting') return;
      let wanted = true;
      preload().then(
        () => wanted && setState('there'),
        () => wanted && setState('failed'),
      );
      return () => {
        wanted = false;
      };
    }, [state]);
    if (Loaded) return <Loaded {...props} />;
    if (state === 'failed') return <Failed onRetry={() => setState('waiting')} />;
    return quiet ? null : <Loading />;
  }
  return Object.assign(Part, { preload });
}

export function Loading() {
  const { t } = useTranslation();
  return (
    <div className={classes.loading} role="status">
      <Loader size="sm" aria-hidden="true" />
      <Text size="sm" c="dimmed">
        {t('common.loading')}
      </Text>
    </div>
  );
}

/** The connection is lost, or the service has been renewed and has other files; loading the page anew helps the latter. */
function Failed({ onRetry }: { onRetry: () => void }) {
  const { t } = useTranslation();
  return (
    <div className={classes.loading} role="alert">
      <Icon name="alert" />
      <Title order={1} size="sm" fw={400}>
        {t('common.partMissing')}
      </Title>
      <Button size="xs" variant="default" onClick={onRetry}>
        {t('common.retry')}
      </Button>
      <Button size="xs" variant="default" onClick={() => location.reload()}>
        {t('common.reload')}
      </Button>
    </div>
  );
}
