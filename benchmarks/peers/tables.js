'use strict'
// The schema of the peers and how it is read from their tables (integer keys, better-sqlite3).
const Database = require('better-sqlite3')

const schema = `
  scalar DateTime
  enum TaskStatus { TODO IN_PROGRESS REVIEW DONE }
  enum Priority { LOW NORMAL HIGH URGENT }
  enum AgentStatus { IDLE BUSY OFFLINE }
  enum RunStatus { QUEUED RUNNING SUCCEEDED FAILED }
  type Workspace { id: ID! name: String! tasks(first: Int! = 50): TaskConnection! }
  type TaskConnection { totalCount: Int! pageInfo: PageInfo! nodes: [Task!]! }
  type PageInfo { hasNextPage: Boolean! endCursor: String }
  type Task {
    id: ID! title: String! description: String! status: TaskStatus! priority: Priority!
    position: Int! labels: [String!]! estimate: Float branch: String
    createdAt: DateTime! updatedAt: DateTime! dueAt: DateTime
    story: Story agent: Agent latestRun: Run runs(last: Int! = 10): [Run!]!
  }
  type Story { id: ID! title: String! }
  type Agent { id: ID! name: String! status: AgentStatus! }
  type Run {
    id: ID! status: RunStatus! progress: Float! startedAt: DateTime! finishedAt: DateTime
  }
  type TaskEvent { id: ID! kind: String! at: DateTime! task: Task! }
  type Query { workspace(id: ID!): Workspace task(id: ID!): Task }
  type Mutation { updateTaskStatus(id: ID!, status: TaskStatus!): Task }
  type Subscription { taskEvents(workspaceId: ID!): TaskEvent! }
`

function open (file, synchronous) {
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.pragma(`synchronous = ${synchronous}`)
  db.pragma('cache_size = -16384')
  return db
}

const iso = text => text === null ? null : text.replace(' ', 'T') + '+00:00'
const now = () => new Date().toISOString().slice(0, -1).replace('T', ' ') + '000'

function toTask (row) {
  return {
    id: row.id,
    workspaceId: row.workspace_id,
    storyId: row.story_id,
    agentId: row.agent_id,
    title: row.title,
    description: row.description,
    status: row.status,
    priority: row.priority,
    position: row.position,
    labels: JSON.parse(row.labels),
    estimate: row.estimate,
    branch: row.branch,
    createdAt: iso(row.created_at),
    updatedAt: iso(row.updated_at),
    dueAt: iso(row.due_at)
  }
}

function toRun (row) {
  return {
    id: row.id,
    status: row.status,
    progress: row.progress,
    startedAt: iso(row.started_at),
    finishedAt: iso(row.finished_at)
  }
}

function reader (db) {
  // Every statement is prepared once; a batch passes its ids as one JSON parameter.
  const among = 'IN (SELECT value FROM json_each(?))'
  const statements = {
    workspace: db.prepare('SELECT id, name FROM workspace WHERE id = ?'),
    task: db.prepare('SELECT * FROM task WHERE id = ?'),
    page: db.prepare('SELECT * FROM task WHERE workspace_id = ? ORDER BY position, id LIMIT ?'),
    count: db.prepare('SELECT count(*) FROM task WHERE workspace_id = ?').pluck(),
    runs: db.prepare('SELECT * FROM run WHERE task_id = ? ORDER BY id DESC LIMIT ?'),
    stories: db.prepare(`SELECT id, title FROM story WHERE id ${among}`),
    agents: db.prepare(`SELECT id, name, status FROM agent WHERE id ${among}`),
    latest: db.prepare(`SELECT * FROM run WHERE id IN
      (SELECT max(id) FROM run WHERE task_id ${among} GROUP BY task_id)`),
    move: db.prepare('UPDATE task SET status = ?, updated_at = ? WHERE id = ? RETURNING *'),
    event: db.prepare(`INSERT INTO event (task_id, workspace_id, kind, payload, created_at)
      VALUES (?, ?, 'STATUS', ?, ?)`)
  }
  const batch = (statement, key, shape) => ids => {
    const found = new Map()
    for (const row of statement.all(JSON.stringify(ids))) found.set(row[key], shape(row))
    return found
  }
  const same = row => row
  const move = db.transaction((id, status) => {
    const at = now()
    const row = statements.move.get(status, at, id)
    if (row === undefined) return null
    const event = statements.event.run(row.id, row.workspace_id, status, at)
    return { id: event.lastInsertRowid, kind: 'STATUS', at: iso(at), task: toTask(row) }
  })
  return {
    workspace: id => statements.workspace.get(id),
    task: id => { const row = statements.task.get(id); return row && toTask(row) },
    page: (workspace, first) => {
      const rows = statements.page.all(workspace, first + 1)
      const nodes = rows.slice(0, first).map(toTask)
      const last = nodes[nodes.length - 1]
      const pageInfo = { hasNextPage: rows.length > first, endCursor: last ? `${last.id}` : null }
      return { workspace, pageInfo, nodes }
    },
    count: workspace => statements.count.get(workspace),
    runs: (task, last) => statements.runs.all(task, last).map(toRun),
    storiesById: batch(statements.stories, 'id', same),
    agentsById: batch(statements.agents, 'id', same),
    latestByTask: batch(statements.latest, 'task_id', toRun),
    move: (id, status) => move.immediate(id, status)
  }
}

module.exports = { schema, open, reader, iso, now }
