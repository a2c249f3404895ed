/** A strength from 0 to 2 as a slider, with its word. */
import { Slider, Text } from '@mantine/core';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { strengthWord } from '../lib/strength';
import classes from './Strength.module.css';

interface StrengthProps {
  label: string;
  part: string;
  value: number;
  disabled?: boolean;
  onChange: (value: number) => void;
}

export function Strength({ label, part, value, disabled = false, onChange }: StrengthProps) {
  const { t } = useTranslation();
  const [moved, setMoved] = useState(value);
  const [known, setKnown] = useState(value);
  // The slider stays the same element, so that the keyboard stays on it while its value is saved.
  if (known !== value) {
    setKnown(value);
    setMoved(value);
  }
  return (
    <div className={classes.strength}>
      <Text size="sm" c="dimmed">
        {part}
      </Text>
      <Slider
        min={0}
        max={2}
        step={0.05}
        value={moved}
        disabled={disabled}
        label={(at) => at.toFixed(2)}
        marks={[{ value: 1 }]}
        thumbLabel={label}
        onChange={setMoved}
        onChangeEnd={onChange}
      />
      <Text size="sm" className={classes.word}>
        {t(`panel.words.${strengthWord(moved)}`)}
      </Text>
    </div>
  );
}
