/** How a picture is sampled: for those who know, behind a button. */
import { Button, Collapse, Group, NumberInput, Select, Stack } from '@mantine/core';
import { useId, useState, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import type { Lora } from '../lib/loras';
import { asSampler, SAMPLERS, type Sampler } from '../lib/samplers';
import { Loras } from './Loras';

/** Null stands for what the service does by itself. */
export interface Sampling {
  sampler: Sampler | null;
  steps: number | null;
  guidance_scale: number | null;
  loras: Lora[];
}

const LIMITS = { steps: [1, 1000], guidance_scale: [1, 30] } as const;

interface AdvancedProps {
  values: Sampling;
  onChange: (change: Partial<Sampling>) => void;
  /** The sentence of a problem that is about a field. */
  about: (field: string) => string | undefined;
  children?: ReactNode;
}

export function Advanced({ values, onChange, about, children }: AdvancedProps) {
  const { t } = useTranslation();
  const { sampler, steps, guidance_scale, loras } = values;
  const problems = [about('sampler'), about('steps'), about('guidance_scale'), about('loras')];
  const stated = sampler !== null || steps !== null || guidance_scale !== null || loras.length > 0;
  const [wanted, setWanted] = useState<boolean | null>(null);
  // What differs from the usual, or is refused, is not hidden.
  const opened = problems.some(Boolean) || (wanted ?? stated);
  const content = useId();
  return (
    <section aria-label={t('advanced.title')}>
      <Button
        size="xs"
        variant="subtle"
        color="gray"
        aria-expanded={opened}
        aria-controls={content}
        onClick={() => setWanted(!opened)}
      >
        {t('advanced.title')}
      </Button>
      <Collapse expanded={opened} id={content}>
        <Stack gap="md" pt="xs">
          <Select
            label={t('advanced.sampler')}
            description={t('advanced.samplerHint')}
            placeholder={t('advanced.usual')}
            clearable
            clearButtonProps={{ 'aria-label': t('advanced.samplerClear') }}
            data={SAMPLERS}
            value={sampler}
            error={problems[0]}
            onChange={(name) => onChange({ sampler: asSampler(name) })}
          />
          <Group grow align="flex-start" gap="md">
            <NumberField field="steps" value={steps} error={problems[1]} onChange={(value) => onChange({ steps: value })} />
            <NumberField
              field="guidance_scale"
              value={guidance_scale}
              error={problems[2]}
              onChange={(value) => onChange({ guidance_scale: value })}
            />
          </Group>
          <Loras chosen={loras} onChange={(chosen) => onChange({ loras: chosen })} problem={problems[3]} />
          {children}
        </Stack>
      </Collapse>
    </section>
  );
}

interface NumberFieldProps {
  field: keyof typeof LIMITS;
  value: number | null;
  error: string | undefined;
  onChange: (value: number | null) => void;
}

/** A number that is told when the field is left, so that half of one is not saved. */
function NumberField({ field, value, error, onChange }: NumberFieldProps) {
  const { t } = useTranslation();
  const [least, most] = LIMITS[field];
  const [draft, setDraft] = useState<string | number | null>(null);
  const text = draft ?? value ?? '';
  const number = text === '' ? null : Number(text);
  const valid = number === null || (number >= least && number <= most && (field !== 'steps' || Number.isInteger(number)));
  const leave = (): void => {
    if (draft === null || !valid) return;
    setDraft(null);
    if (number !== value) onChange(number);
  };
  return (
    <NumberInput
      label={t(`advanced.${field}`)}
      description={t(`advanced.${field}Hint`)}
      placeholder={t('advanced.usual')}
      value={text}
      min={least}
      max={most}
      step={field === 'steps' ? 1 : 0.5}
      clampBehavior="none"
      allowDecimal={field !== 'steps'}
      allowNegative={false}
      hideControls
      error={error ?? (valid ? undefined : t('advanced.between', { least, most }))}
      onChange={setDraft}
      onBlur={leave}
      onKeyDown={(event) => event.key === 'Enter' && leave()}
    />
  );
}
