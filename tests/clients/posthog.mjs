// The published client of PostHog Tasks does a run's work: posthog.mjs FOLDER < what to work on.
// FOLDER is what deploy/install_clients.sh made. Prints what the client understood, as JSON.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.argv[2]}/posthog/${name}.js`));
const { PostHogAPIClient } = await load("posthog-api");
const { resumeFromLog } = await load("resume");
const { url, key, project, task, run } = JSON.parse(readFileSync(0, "utf8"));

let refreshed = 0;
const client = new PostHogAPIClient({
  apiUrl: url,
  projectId: project,
  getApiKey: () => (refreshed ? key : "phx_expired"),
  refreshApiKey: () => {
    refreshed += 1;
    return key;
  },
});
const logged = (update) => ({
  type: "notification",
  timestamp: new Date().toISOString(),
  notification: { jsonrpc: "2.0", method: "session/update", params: { sessionId: "s1", update } },
});
const text = (value) => ({ type: "text", text: value });

const found = await client.getTask(task);
const begun = await client.updateTaskRun(task, run, {
  status: "in_progress",
  state: { step: 1 },
});
await client.appendTaskRunLog(task, run, [
  logged({ sessionUpdate: "user_message", content: text("Fix it") }),
  logged({ sessionUpdate: "agent_message_chunk", content: text("never kept") }),
  logged({ sessionUpdate: "agent_message", content: text("Done") }),
]);
const [inline] = await client.uploadTaskArtifacts(task, run, [
  { name: "plan.md", type: "plan", content: "# Plan", content_type: "text/markdown" },
]);
const announced = { name: "big.bin", type: "output", size: 70000 };
const [prepared] = await client.prepareTaskArtifactUploads(task, run, [announced]);
const form = new FormData();
for (const [name, value] of Object.entries(prepared.presigned_post.fields)) form.append(name, value);
form.append("file", new Blob([new Uint8Array(70000)]), "big.bin");
const uploaded = await fetch(prepared.presigned_post.url, { method: "POST", body: form });
const [finalized] = await client.finalizeTaskArtifactUploads(task, run, [
  { ...announced, id: prepared.id, storage_path: prepared.storage_path },
]);
const bytes = await client.downloadArtifact(task, run, finalized.storage_path);
const plan = await client.downloadArtifact(task, run, inline.storage_path);
const missing = await client.downloadArtifact(task, run, "tasks/elsewhere");
await client.relayMessage(task, run, "hello", ["hello"], "m1", null);
await client.setTaskRunOutput(task, run, { output: { pr_url: "https://example.org/1" } });
const peers = await client.listTaskRunPeers(task, run).catch((error) => error.status);
const ended = await client.updateTaskRun(task, run, { status: "completed" });
const resumed = await resumeFromLog({ taskId: task, runId: run, apiClient: client });

console.log(
  JSON.stringify({
    refreshed,
    title: found.title,
    user: await client.getUserNode(),
    begun: begun.status,
    upload: uploaded.status,
    sizes: [inline.size, finalized.size, bytes.byteLength],
    plan: new TextDecoder().decode(plan),
    missing,
    reports: await client.getSignalReportIdsForTask(task),
    peers,
    ended: [ended.status, ended.output, ended.state, ended.artifacts.map((a) => a.name)],
    logs: (await client.fetchTaskRunLogs(await client.getTaskRun(task, run))).length,
    conversation: resumed.conversation.map((turn) => [turn.role, turn.content]),
  }),
);
