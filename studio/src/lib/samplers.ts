/** The names of samplers that the service takes; the compiler holds the list to the OpenAPI document. */
import type { Schemas } from '../api/client';

export type Sampler = NonNullable<Schemas['PanelFields']['sampler']>;

const NAMES: Record<Sampler, string> = {
  ddim: 'DDIM',
  ddim_trailing: 'DDIM Trailing',
  deis: 'DEIS',
  dpmpp_2m: 'DPM++ 2M',
  dpmpp_2m_karras: 'DPM++ 2M Karras',
  dpmpp_2m_exponential: 'DPM++ 2M Exponential',
  dpmpp_2m_sde: 'DPM++ 2M SDE',
  dpmpp_2m_sde_karras: 'DPM++ 2M SDE Karras',
  dpmpp_sde: 'DPM++ SDE',
  dpmpp_sde_karras: 'DPM++ SDE Karras',
  euler: 'Euler',
  euler_trailing: 'Euler Trailing',
  euler_karras: 'Euler Karras',
  euler_a: 'Euler Ancestral',
  euler_a_trailing: 'Euler Ancestral Trailing',
  heun: 'Heun',
  heun_karras: 'Heun Karras',
  lcm: 'LCM',
  tcd: 'TCD',
  unipc: 'UniPC',
  unipc_karras: 'UniPC Karras',
  'dpm++': 'DPM++',
  realcustom: 'RealCustom',
};

export const SAMPLERS = Object.entries(NAMES).map(([value, label]) => ({ value, label }));

/** A sampler by its name; null for a name that this studio does not know. */
export const asSampler = (name: string | null | undefined): Sampler | null =>
  name != null && Object.hasOwn(NAMES, name) ? (name as Sampler) : null;

/** A sampler as it is shown; a name that this studio does not know stays as it is. */
export const samplerLabel = (name: string): string => asSampler(name) ? NAMES[name as Sampler] : name;
