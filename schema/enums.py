"""The vocabularies as GraphQL enums: the canonical ones, each declared once."""

import strawberry

from models import enums
from resolvers.task_queries import TaskOrder
from resolvers.users import UserOrder
from resolvers.workspace_queries import WorkspaceOrder

strawberry.enum(enums.TaskStatus, description="Where a task stands on the board.")
strawberry.enum(enums.RunStatus, description="Where a run stands; the last three are final.")
strawberry.enum(
    enums.RunHold,
    description="What a waiting run waits for: its workspace is not active, its executor is not "
    "configured here, its queue is paused, its task waits for others, the day's budget is used up, "
    "another run of its task executes, its workspace runs as many as it may, or only its turn.",
)
strawberry.enum(enums.RunKind, description="What a run executes.")
strawberry.enum(enums.QueueClass, description="Which queue a run waits in; HIGH is drained first.")
strawberry.enum(enums.Executor, description="Programs that can execute a run.")
strawberry.enum(
    enums.TaskPriority,
    description="Buckets of the level 0 to 10: NONE 0, LOW 1, MEDIUM 2, HIGH 3, URGENT 4 to 10.",
)
strawberry.enum(enums.TaskType, description="What kind of work a task is.")
strawberry.enum(enums.TaskCategory, description="What a task may do to the world.")
strawberry.enum(enums.ReviewVerdict, description="What a reviewer said.")
strawberry.enum(enums.DependencyKind, description="When a dependency counts as met.")
strawberry.enum(enums.ContextPhase, description="Which prompt a context entry belongs to.")
strawberry.enum(enums.WorkspaceStatus, description="Only an ACTIVE workspace takes changes.")
strawberry.enum(enums.Workflow, description="How a team works in a workspace.")
strawberry.enum(enums.Role, description="What a user may do, in one workspace or in all.")
strawberry.enum(enums.UserKind, description="A person, or a program under its own name.")
strawberry.enum(enums.UserTier, description="Which rate limits apply to a user.")
strawberry.enum(enums.KeyKind, description="Where an API key comes from.")
strawberry.enum(enums.Dialect, description="The legacy API a key belongs to.")
strawberry.enum(enums.StoryStatus, description="Where a story stands.")
strawberry.enum(enums.SprintStatus, description="Steps of a sprint, in order.")
strawberry.enum(enums.AgentStatus, description="What an agent is doing.")
strawberry.enum(enums.DeliveryStatus, description="Where a webhook delivery stands.")
strawberry.enum(enums.DevicePlatform, description="Whose push service a device listens to.")
strawberry.enum(enums.ExecutionMode, description="Where an agent's model credential comes from.")
strawberry.enum(
    enums.Permission, description="What somebody may do, in a workspace or on the site."
)
strawberry.enum(TaskOrder, description="Orders of a list of tasks; ids break ties.")
strawberry.enum(UserOrder, description="Orders of a list of users; ids break ties.")
strawberry.enum(WorkspaceOrder, description="Orders of a list of workspaces; ids break ties.")
