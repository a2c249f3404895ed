/** Which of the service's LoRAs are used, and how strongly. */
import { Checkbox, Group, NumberInput, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { modelsQuery } from '../api/queries';
import { lorasToShow, MAX_LORAS, turned, weighted, WEIGHTS, weightOf, type Lora } from '../lib/loras';

interface LorasProps {
  chosen: readonly Lora[];
  onChange: (chosen: Lora[]) => void;
  problem: string | undefined;
}

/** Nothing where the service has no LoRAs and none is chosen. */
export function Loras({ chosen, onChange, problem }: LorasProps) {
  const { t } = useTranslation();
  const served = useQuery(modelsQuery).data?.data.flatMap((model) => model.loras ?? []) ?? [];
  const names = lorasToShow(served, chosen);
  if (names.length === 0) return null;
  return (
    <fieldset style={{ margin: 0, padding: 0, border: 0, minWidth: 0 }}>
      <Text component="legend" size="sm" fw={500} p={0}>
        {t('advanced.loras')}
      </Text>
      <Text size="xs" c="dimmed" mb="xs">
        {t('advanced.lorasHint')}
      </Text>
      <Stack gap="xs">
        {names.map((name) => {
          const own = chosen.find((each) => each.name === name);
          return (
            <Group key={name} justify="space-between" gap="xs" mih={36}>
              <Checkbox
                label={served.includes(name) ? name : t('advanced.loraGone', { name })}
                checked={own !== undefined}
                disabled={!own && chosen.length >= MAX_LORAS}
                onChange={(event) => onChange(turned(chosen, name, event.currentTarget.checked))}
              />
              {own && (
                <Weight
                  key={weightOf(own)}
                  label={t('advanced.loraWeight', { name })}
                  value={weightOf(own)}
                  onChange={(weight) => onChange(weighted(chosen, name, weight))}
                />
              )}
            </Group>
          );
        })}
      </Stack>
      {problem && (
        <Text size="sm" c="var(--mantine-color-error)" role="alert">
          {problem}
        </Text>
      )}
    </fieldset>
  );
}

interface WeightProps {
  label: string;
  value: number;
  onChange: (weight: number) => void;
}

/** Told when the field is left, so that half of a number is not saved. */
function Weight({ label, value, onChange }: WeightProps) {
  const { t } = useTranslation();
  const [text, setText] = useState<string | number>(value);
  const [least, most] = WEIGHTS;
  const weight = Number(text);
  const valid = text !== '' && weight >= least && weight <= most;
  const leave = (): void => {
    if (valid && weight !== value) onChange(weight);
  };
  return (
    <NumberInput
      aria-label={label}
      w={104}
      value={text}
      min={least}
      max={most}
      step={0.1}
      decimalScale={2}
      clampBehavior="none"
      error={valid ? undefined : t('advanced.between', { least, most })}
      onChange={setText}
      onBlur={leave}
      onKeyDown={(event) => event.key === 'Enter' && leave()}
    />
  );
}
