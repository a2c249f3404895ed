/** Problems in the words of the person. */
import type { TFunction } from 'i18next';
import { useTranslation } from 'react-i18next';
import { asProblem, type Problem } from '../api/problem';
import { en } from '../i18n/en';
import { timeOf } from '../lib/amounts';

type Known = keyof typeof en.problem;

const isKnown = (code: string): code is Known => Object.hasOwn(en.problem, code);

/** A sentence with a remedy. */
export function sentence(t: TFunction, language: string, error: unknown): string {
  const problem = asProblem(error);
  if (problem.code === 'insufficient_quota') {
    return t('problem.insufficient_quota', { time: timeOf(Date.now() + (problem.retryAfter ?? 0) * 1000, language) });
  }
  if (problem.code && isKnown(problem.code)) return t(`problem.${problem.code}`, { message: plain(problem) });
  if (problem.status === 0) return t('problem.no_connection');
  if (problem.status === 404) return t('problem.not_found');
  if (problem.status === 413) return t('problem.too_large');
  if (problem.status >= 500) return t('problem.internal');
  return plain(problem) || t('problem.unknown');
}

/** The service's own sentence, without the field's name before it. */
function plain(problem: Problem): string {
  const prefix = problem.param ? `${problem.param}: ` : '';
  const text = prefix && problem.message.startsWith(prefix) ? problem.message.slice(prefix.length) : problem.message;
  return text && text[0]!.toUpperCase() + text.slice(1);
}

export function useSentence(): (error: unknown) => string {
  const { t, i18n } = useTranslation();
  return (error) => sentence(t, i18n.language, error);
}

/** The sentence for a field, where the problem is about it. */
export function useFieldProblem(error: unknown): (...fields: string[]) => string | undefined {
  const say = useSentence();
  return (...fields) => {
    if (!error) return undefined;
    const problem = asProblem(error);
    return fields.some((field) => problem.isAbout(field)) ? say(problem) : undefined;
  };
}
