/** A rectangle in numbers, to be added to what is painted, or erased from it. */
import { Button, Group, NumberInput, SimpleGrid } from '@mantine/core';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { stateBox, type Box, type Size } from '../../lib/region';

interface BoxFieldsProps {
  box: Box;
  size: Size;
  onChange: (box: Box) => void;
  onAdd: () => void;
  onErase: () => void;
}

export function BoxFields({ box, size, onChange, onAdd, onErase }: BoxFieldsProps) {
  const { t } = useTranslation();
  const [left, top, right, bottom] = box;
  const sides = { left, top, width: right - left, height: bottom - top };
  return (
    <>
      <SimpleGrid cols={2} spacing="xs">
        {(['left', 'top', 'width', 'height'] as const).map((side) => (
          <SideField
            key={side}
            label={t(`redraw.${side}`)}
            value={sides[side]}
            onChange={(value) => onChange(stateBox(box, { [side]: value }, size))}
          />
        ))}
      </SimpleGrid>
      <Group gap="xs">
        <Button size="xs" onClick={onAdd} variant="light">
          {t('redraw.addBox')}
        </Button>
        <Button size="xs" onClick={onErase} variant="default">
          {t('redraw.eraseBox')}
        </Button>
      </Group>
    </>
  );
}

/** Pixels, told when the field is left, so that half of a number is not used. */
function SideField({ label, value, onChange }: { label: string; value: number; onChange: (value: number) => void }) {
  const [draft, setDraft] = useState<string | number | null>(null);
  const leave = (): void => {
    setDraft(null);
    if (draft !== null && draft !== '' && Number(draft) !== value) onChange(Math.round(Number(draft)));
  };
  return (
    <NumberInput
      label={label}
      value={draft ?? value}
      min={0}
      clampBehavior="none"
      allowDecimal={false}
      allowNegative={false}
      hideControls
      onChange={setDraft}
      onBlur={leave}
      onKeyDown={(event) => event.key === 'Enter' && leave()}
    />
  );
}
