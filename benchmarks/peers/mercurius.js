'use strict'
// Fastify + Mercurius with graphql-jit over the peers' tables.
// BATCH=dataloader: the `dataloader` package; BATCH=loaders: Mercurius' own loaders.
const fastify = require('fastify')
const mercurius = require('mercurius')
const mqemitter = require('mqemitter')
const DataLoader = require('dataloader')
const { schema, open, reader } = require('./tables')

const read = reader(open(process.env.DB, process.env.SYNCHRONOUS || 'NORMAL'))
const topic = workspace => `workspace:${workspace}`

const resolvers = {
  Query: {
    workspace: (_, { id }) => read.workspace(Number(id)),
    task: (_, { id }) => read.task(Number(id))
  },
  Workspace: { tasks: (workspace, { first }) => read.page(workspace.id, first) },
  TaskConnection: { totalCount: connection => read.count(connection.workspace) },
  Task: { runs: (task, { last }) => read.runs(task.id, last) },
  Mutation: {
    updateTaskStatus: (_, { id, status }, { pubsub }) => {
      const event = read.move(Number(id), status)
      if (event === null) return null
      pubsub.publish({ topic: topic(event.task.workspaceId), payload: { taskEvents: event } })
      return event.task
    }
  },
  Subscription: {
    taskEvents: {
      subscribe: (_, { workspaceId }, { pubsub }) => pubsub.subscribe(topic(workspaceId))
    }
  }
}
const options = {
  schema,
  resolvers,
  jit: 1,
  graphiql: false,
  subscription: { emitter: mqemitter({ concurrency: 0 }) }
}

const toOne = {
  story: ['storyId', read.storiesById],
  agent: ['agentId', read.agentsById],
  latestRun: ['id', read.latestByTask]
}
if (process.env.BATCH === 'loaders') {
  options.loaders = { Task: {} }
  for (const [field, [key, batch]] of Object.entries(toOne)) {
    options.loaders.Task[field] = {
      opts: { cache: false },
      loader: async queries => {
        const keys = new Set()
        for (const { obj } of queries) if (obj[key] !== null) keys.add(obj[key])
        const found = batch([...keys])
        return queries.map(({ obj }) => found.get(obj[key]) ?? null)
      }
    }
  }
} else {
  for (const [field, [key]] of Object.entries(toOne)) {
    resolvers.Task[field] = (task, _, context) =>
      task[key] === null ? null : context[field].load(task[key])
  }
  options.context = () => {
    const context = {}
    for (const [field, [, batch]] of Object.entries(toOne)) {
      context[field] = new DataLoader(async keys => {
        const found = batch(keys)
        return keys.map(key => found.get(key) ?? null)
      })
    }
    return context
  }
}

const app = fastify({ logger: false })
app.register(mercurius, options)
app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
