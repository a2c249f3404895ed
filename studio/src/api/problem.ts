/** What the service refuses, as an error with the field that it is about. */

export class Problem extends Error {
  constructor(
    message: string,
    /** 0 where no answer came. */
    readonly status: number,
    readonly code: string | null = null,
    readonly param: string | null = null,
    /** Seconds. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
    this.name = 'Problem';
  }

  /** Whether the problem is about this field of the form, or about one of its parts. */
  isAbout(field: string): boolean {
    const param = this.param ?? '';
    return param === field || param.startsWith(`${field}.`) || param.startsWith(`${field}[`);
  }
}

interface Envelope {
  error?: { message?: string; code?: string | null; param?: string | null };
}

export async function problemOf(response: Response): Promise<Problem> {
  let envelope: unknown = {};
  try {
    envelope = await response.json();
  } catch {
    // Something in front of the service has answered.
  }
  const after = Number(response.headers.get('Retry-After') ?? NaN);
  return problemIn(envelope, response.status, response.statusText, Number.isFinite(after) ? after : null);
}

/** The problem that the service tells in an answer, or in an event of one that has begun. */
export function problemIn(envelope: unknown, status: number, text = '', retryAfter: number | null = null): Problem {
  const { message, code, param } = (envelope as Envelope | null)?.error ?? {};
  return new Problem(message ?? text, status, code ?? null, param ?? null, retryAfter);
}

export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(error instanceof Error ? error.message : String(error), 0);
}

/** Whether a request has ended because the person has stopped it. */
export const isStopped = (error: unknown): boolean => error instanceof DOMException && error.name === 'AbortError';
