/** A picture in the making: how long it waits, then what there is of it. */
import { Progress, Stack, Text } from '@mantine/core';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';
import type { Look } from '../../api/drawing';
import { Base64Picture } from '../../components/Picture';
import classes from '../OnePicture.module.css';

interface MakingProps {
  look: Look | null;
  /** How many steps were asked for; null for as many as usual. */
  steps: number | null;
}

export function Making({ look, steps }: MakingProps) {
  const { t } = useTranslation();
  const seconds = useSeconds();
  if (!look) return <div className={classes.blank}>{t('picture.waiting', { count: seconds })}</div>;
  const { step } = look;
  const text = steps ? t('board.step', { step, total: steps }) : t('picture.step', { step });
  return (
    <Stack gap="xs">
      <Base64Picture encoded={look.b64_json} alt={t('picture.look')} />
      <Text size="sm" c="dimmed">
        {text}
      </Text>
      {steps && <Progress value={(100 * step) / steps} size="sm" aria-label={text} />}
    </Stack>
  );
}

/** Seconds since this is shown. */
function useSeconds(): number {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const begun = Date.now();
    const timer = setInterval(() => setSeconds(Math.round((Date.now() - begun) / 1000)), 1000);
    return () => clearInterval(timer);
  }, []);
  return seconds;
}
