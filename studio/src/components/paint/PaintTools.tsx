/** The brush of a `PaintStage`: its width, by slider and keys, and undo. */
import { Button, Group, Slider, Text } from '@mantine/core';
import { useEffect, useEffectEvent, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { nextWidth } from '../../lib/painting';
import { Icon } from '../Icon';

interface BrushWidthProps {
  value: number;
  widths: { least: number; most: number };
  onChange: (width: number) => void;
}

export function BrushWidth({ value, widths: { least, most }, onChange }: BrushWidthProps) {
  const { t } = useTranslation();
  return (
    <div>
      <Group justify="space-between" gap="xs">
        <Text size="sm" fw={500}>
          {t('paint.brush')}
        </Text>
        <Text size="sm" c="dimmed">
          {t('paint.pixels', { count: value })}
        </Text>
      </Group>
      <Slider min={least} max={most} value={value} onChange={onChange} label={null} thumbLabel={t('paint.brush')} />
      <Text size="xs" c="dimmed" mt={8}>
        {t('paint.keys')}
      </Text>
    </div>
  );
}

export function PaintUndo({ disabled, onUndo, children }: { disabled: boolean; onUndo: () => void; children?: ReactNode }) {
  const { t } = useTranslation();
  return (
    <Group gap="xs">
      <Button size="xs" variant="default" disabled={disabled} onClick={onUndo} leftSection={<Icon name="undo" size={16} />}>
        {t('common.undo')}
      </Button>
      {children}
    </Group>
  );
}

/** Keys that act on what is painted wherever the focus is, but in text that is being typed. */
export function usePaintKeys(brush: BrushWidthProps, onUndo: () => void): void {
  const keyed = useEffectEvent((event: KeyboardEvent): void => {
    if (event.target instanceof Element && event.target.closest('textarea, input:not([type=radio])')) return;
    if (event.key === '[' || event.key === ']') brush.onChange(nextWidth(brush.value, event.key === ']', brush.widths));
    else if (event.key.toLowerCase() === 'z' && (event.ctrlKey || event.metaKey) && !event.shiftKey) onUndo();
    else return;
    event.preventDefault();
  });
  useEffect(() => {
    const listen = (event: KeyboardEvent): void => keyed(event);
    document.addEventListener('keydown', listen);
    return () => document.removeEventListener('keydown', listen);
  }, []);
}
