/** What both examples need: a client with the types of the document, and answers that say what is wrong. */

import createClient from "openapi-fetch";

import type { components, paths } from "./openapi.js";

export type Job = components["schemas"]["Job"];

const key = process.env.JESSE_JOBS_KEY;

export const client = createClient<paths>({
  baseUrl: process.env.JESSE_JOBS_URL ?? "http://127.0.0.1:8100",
  headers: key ? { authorization: `Bearer ${key}` } : {},
});

/** What a call answered. A refusal says what is wrong, and what is allowed, in words. */
export function answered<T>({ data, error, response }: { data?: T; error?: unknown; response: Response }): T {
  if (data === undefined) throw new Error(`${response.status}: ${JSON.stringify(error)}`);
  return data;
}

export const hasEnded = (job: Job) => !["queued", "scheduled", "running", "waiting"].includes(job.state);

/** The job, if it succeeded. */
export function succeeded(job: Job): Job {
  if (job.state !== "succeeded") throw new Error(`it is ${job.state}: ${job.error?.code}: ${job.error?.message}`);
  return job;
}
