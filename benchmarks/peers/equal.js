'use strict'
// Mercurius with graphql-jit and dataloader that does the work Dragoman does: on a copy of
// Dragoman's own database, with the same statements, a token looked up at most once a second,
// permissions asked, versions, kept totals and numbered events written.
const crypto = require('node:crypto')
const fastify = require('fastify')
const mercurius = require('mercurius')
const mqemitter = require('mqemitter')
const DataLoader = require('dataloader')
const { open, iso, now } = require('./tables')

const schema = `
  scalar DateTime
  enum TaskStatus { BACKLOG QUEUED IN_PROGRESS PAUSED BLOCKED REVIEW COMPLETED FAILED CANCELLED }
  enum TaskPriority { NONE LOW MEDIUM HIGH URGENT }
  enum AgentStatus { IDLE STARTING ACTIVE WORKING STALLED FAILED COMPLETED STOPPED }
  enum RunStatus { QUEUED RUNNING AWAITING_INPUT PAUSED COMPLETED FAILED CANCELLED }
  type Workspace { id: ID! name: String! tasks(first: Int! = 50): TaskConnection! }
  type TaskConnection { totalCount: Int! pageInfo: PageInfo! nodes: [Task!]! }
  type PageInfo { hasNextPage: Boolean! endCursor: String }
  type Task {
    id: ID! title: String! description: String! status: TaskStatus! priority: TaskPriority!
    position: Float! labels: [String!]! storyPoints: Float branch: String
    createdAt: DateTime! updatedAt: DateTime! dueAt: DateTime
    story: Story agent: Agent latestRun: Run runs(first: Int! = 50): RunConnection!
  }
  type RunConnection { nodes: [Run!]! }
  type Story { id: ID! title: String! }
  type Agent { id: ID! name: String! status: AgentStatus! }
  type Run { id: ID! status: RunStatus! progress: Int! startedAt: DateTime finishedAt: DateTime }
  input MoveTaskInput { id: ID! status: TaskStatus! }
  type TaskPayload { task: Task! }
  type TaskEvent { type: String! task: Task! }
  type Query { workspace(id: ID!): Workspace task(id: ID!): Task }
  type Mutation { moveTask(input: MoveTaskInput!): TaskPayload! }
  type Subscription { events(workspaceId: ID!): TaskEvent! }
`
const db = open(process.env.DB, process.env.SYNCHRONOUS || 'NORMAL')
const among = 'IN (SELECT value FROM json_each(?))'
const taskColumns = 'id, workspace_id, story_id, agent_id, title, description, status, ' +
  'priority_level, position, labels, story_points, branch, created_at, updated_at, due_at'
const runColumns = 'id, task_id, status, progress, started_at, finished_at'
const sql = {
  key: db.prepare('SELECT * FROM api_key WHERE secret_hash = ?'),
  user: db.prepare('SELECT * FROM user_account WHERE id = ?'),
  memberships: db.prepare('SELECT workspace_id, role FROM membership WHERE user_id = ?'),
  workspace: db.prepare('SELECT id, name FROM workspace WHERE id = ? AND deleted_at IS NULL'),
  task: db.prepare(`SELECT ${taskColumns.replace(/\w+/g, 't.$&')}, w.status AS workspace_status
    FROM task t JOIN workspace w ON w.id = t.workspace_id
    WHERE t.id = ? AND t.deleted_at IS NULL AND w.deleted_at IS NULL`),
  page: db.prepare(`SELECT ${taskColumns} FROM task WHERE deleted_at IS NULL
    AND archived_at IS NULL AND workspace_id = ? ORDER BY position, id LIMIT ?`),
  total: db.prepare(`SELECT coalesce(sum(total), 0) FROM task_total
    WHERE workspace_id = ? AND archived = 0`).pluck(),
  runs: db.prepare(`SELECT ${runColumns} FROM run WHERE task_id = ?
    ORDER BY created_at DESC, id DESC LIMIT ?`),
  stories: db.prepare(`SELECT id, title FROM story WHERE id ${among}`),
  agents: db.prepare(`SELECT id, name, status FROM agent WHERE id ${among}`),
  latest: db.prepare(`SELECT ${runColumns} FROM (SELECT ${runColumns}, row_number() OVER (
    PARTITION BY task_id ORDER BY created_at DESC, id DESC) AS rank FROM run
    WHERE task_id ${among}) WHERE rank = 1`),
  whole: db.prepare(`SELECT t.*, w.status AS workspace_status FROM task t
    JOIN workspace w ON w.id = t.workspace_id
    WHERE t.id = ? AND t.deleted_at IS NULL AND w.deleted_at IS NULL`),
  liveRuns: db.prepare(`SELECT * FROM run WHERE task_id = ? AND managed = 1 AND status IN
    ('QUEUED', 'RUNNING', 'AWAITING_INPUT', 'PAUSED') ORDER BY created_at, id`),
  move: db.prepare(`UPDATE task SET status = ?, status_before = NULL, status_reason = NULL,
    queued_at = NULL, started_at = ?, completed_at = ?, progress = ?, updated_at = ?,
    version = version + 1 WHERE id = ? RETURNING *`),
  waiting: db.prepare(`SELECT * FROM task WHERE (id IN (SELECT task_id FROM task_dependency
    WHERE depends_on_id = ?) OR parent_id = ?) AND status = 'BLOCKED' AND deleted_at IS NULL
    ORDER BY number LIMIT 1000`),
  totals: db.prepare(`INSERT INTO task_total (workspace_id, status, archived, total)
    VALUES (?, ?, 0, -1), (?, ?, 0, 1) ON CONFLICT (workspace_id, status, archived)
    DO UPDATE SET total = total + excluded.total`),
  number: db.prepare('UPDATE event_stream SET seq = seq + 1 WHERE id = ? RETURNING epoch, seq'),
  event: db.prepare(`INSERT INTO event (stream_id, seq, epoch, type, entity_type, entity_id,
    actor_type, actor_id, actor_name, payload, at)
    VALUES (?, ?, ?, 'task.moved', 'task', ?, 'user', ?, ?, ?, ?)`)
}

// --- who asks ---
const known = new Map()
function principalOf (header) {
  if (header === undefined || !header.startsWith('Bearer ')) throw new Error('UNAUTHENTICATED')
  const digest = crypto.createHash('sha256').update(header.slice(7)).digest('hex')
  const cached = known.get(digest)
  if (cached !== undefined && cached.until > Date.now()) return cached.principal
  const key = sql.key.get(digest)
  if (key === undefined || key.revoked_at !== null) throw new Error('UNAUTHENTICATED')
  const user = sql.user.get(key.user_id)
  if (user === undefined || !user.is_active) throw new Error('UNAUTHENTICATED')
  const roles = new Map(sql.memberships.all(user.id).map(row => [row.workspace_id, row.role]))
  const principal = { id: user.id, name: user.name, all: Boolean(user.is_site_owner), roles }
  known.set(digest, { principal, until: Date.now() + 1000 })
  return principal
}
const mayRead = (principal, workspace) => principal.all || principal.roles.has(workspace)
const mayWrite = (principal, workspace) =>
  principal.all || (principal.roles.get(workspace) || 'VIEWER') !== 'VIEWER'

// --- rows as the schema has them ---
const BUCKETS = ['NONE', 'LOW', 'MEDIUM', 'HIGH', 'URGENT']
const toTask = row => ({
  id: row.id,
  storyId: row.story_id,
  agentId: row.agent_id,
  title: row.title,
  description: row.description,
  status: row.status,
  priority: BUCKETS[Math.min(row.priority_level, 4)],
  position: row.position,
  labels: JSON.parse(row.labels),
  storyPoints: row.story_points,
  branch: row.branch,
  createdAt: iso(row.created_at),
  updatedAt: iso(row.updated_at),
  dueAt: iso(row.due_at)
})
const toRun = row => ({
  id: row.id,
  status: row.status,
  progress: row.progress,
  startedAt: iso(row.started_at),
  finishedAt: iso(row.finished_at)
})

// --- one transaction, as moveTask makes it ---
const FLAGS = ['title_manually_set', 'use_worktree', 'auto_start', 'internal']
function snapshot (row) {
  const kept = {}
  for (const name in row) {
    const value = row[name]
    if (value === null) continue
    if (FLAGS.includes(name)) kept[name] = Boolean(value)
    else if (name.endsWith('_at')) kept[name] = iso(value)
    else if (typeof value === 'string' && (value[0] === '[' || value[0] === '{')) kept[name] = JSON.parse(value)
    else kept[name] = value
  }
  return kept
}
const move = db.transaction((principal, id, status) => {
  const task = sql.whole.get(id)
  if (task === undefined || !mayRead(principal, task.workspace_id)) throw new Error('NOT_FOUND')
  if (!mayWrite(principal, task.workspace_id)) throw new Error('FORBIDDEN')
  if (task.workspace_status !== 'ACTIVE') throw new Error('CONFLICT')
  if (task.status === status) return { task, event: null }
  if (['QUEUED', 'IN_PROGRESS', 'PAUSED'].includes(task.status)) sql.liveRuns.all(id)
  const at = now()
  const completed = status === 'COMPLETED'
  const began = task.started_at ?? (completed || status === 'IN_PROGRESS' ? at : null)
  const progress = completed ? 100 : task.progress
  const after = sql.move.get(status, began, completed ? at : null, progress, at, id)
  if (completed) sql.waiting.all(id, id)
  const workspace = task.workspace_id
  sql.totals.run(workspace, task.status, workspace, status)
  const log = sql.number.get(workspace)
  const payload = { task: snapshot(after), from_status: task.status }
  sql.event.run(workspace, log.seq, log.epoch, id, principal.id, principal.name,
    JSON.stringify(payload), at)
  return { task: after, event: { type: 'task.moved', task: toTask(after) } }
})

// --- the server ---
const toOne = {
  story: ['storyId', sql.stories, 'id', row => row],
  agent: ['agentId', sql.agents, 'id', row => row],
  latestRun: ['id', sql.latest, 'task_id', toRun]
}
const resolvers = {
  Query: {
    workspace: (_, { id }, { principal }) => mayRead(principal, id) ? sql.workspace.get(id) : null,
    task: (_, { id }, { principal }) => {
      const row = sql.task.get(id)
      return row !== undefined && mayRead(principal, row.workspace_id) ? toTask(row) : null
    }
  },
  Workspace: {
    tasks: (workspace, { first }, { principal }) => {
      if (!mayRead(principal, workspace.id)) throw new Error('NOT_FOUND')
      const rows = sql.page.all(workspace.id, first + 1)
      const nodes = rows.slice(0, first)
      const last = nodes[nodes.length - 1]
      const key = last && Buffer.from(JSON.stringify([last.position, last.id]))
      const endCursor = key ? key.toString('base64url') : null
      const pageInfo = { hasNextPage: rows.length > first, endCursor }
      return { workspace: workspace.id, pageInfo, nodes: nodes.map(toTask) }
    }
  },
  TaskConnection: { totalCount: connection => sql.total.get(connection.workspace) },
  Task: { runs: (task, { first }) => ({ nodes: sql.runs.all(task.id, first).map(toRun) }) },
  Mutation: {
    moveTask: (_, { input }, { principal, pubsub }) => {
      const { task, event } = move.immediate(principal, input.id, input.status)
      if (event !== null) pubsub.publish({ topic: task.workspace_id, payload: { events: event } })
      return { task: toTask(task) }
    }
  },
  Subscription: {
    events: { subscribe: (_, { workspaceId }, { pubsub }) => pubsub.subscribe(workspaceId) }
  }
}
for (const [field, [key]] of Object.entries(toOne)) {
  resolvers.Task[field] = (task, _, context) =>
    task[key] === null ? null : context[field].load(task[key])
}

function context (request) {
  const made = { principal: principalOf(request.headers.authorization) }
  for (const [field, [, statement, key, shape]] of Object.entries(toOne)) {
    made[field] = new DataLoader(async keys => {
      const found = new Map()
      for (const row of statement.all(JSON.stringify(keys))) found.set(row[key], shape(row))
      return keys.map(one => found.get(one) ?? null)
    })
  }
  return made
}

const app = fastify({ logger: false })
app.register(mercurius, {
  schema,
  resolvers,
  context,
  jit: 1,
  graphiql: false,
  queryDepth: 12,
  subscription: { emitter: mqemitter({ concurrency: 0 }) }
})
app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
