/** Why panels wait, where a part of the service that drawing needs is gone. */
import { Alert, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';
import { readinessQuery } from '../../api/readiness';
import type { Panel } from '../../api/stories';
import { Icon } from '../../components/Icon';
import { isWaiting } from './panelState';

export function PartMissing({ panels }: { panels: readonly Panel[] }) {
  const { t } = useTranslation();
  const waiting = isWaiting(panels);
  const { data: ready } = useQuery({ ...readinessQuery, enabled: waiting });
  return (
    <div role="status">
      {waiting && ready === false && (
        <Alert color="yellow" variant="light" icon={<Icon name="clock" />} role="note" mb="md">
          <Text size="sm">{t('wait.partMissing')}</Text>
        </Alert>
      )}
    </div>
  );
}
