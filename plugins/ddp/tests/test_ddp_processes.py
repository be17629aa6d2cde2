"""Two real processes on gloo: collectives, gradients, and several runs in one program."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def test_collectives(run_program: Callable[..., Any]) -> None:
    program = run_program("""
        def main(s):
            r = s.global_rank
            assert (s.world_size, s.local_rank, s.node_rank, s.is_global_zero) == (2, r, 0, r == 0)
            assert s.distributed_sampler_kwargs == {"num_replicas": 2, "rank": r}
            assert s.capabilities.inference_mode is False and s.process_group_backend == "gloo"
            for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
                x = torch.tensor([1.0, 3.0], dtype=dtype) * (r + 1)
                y = s.all_reduce(x)
                assert y.dtype == dtype and y.tolist() == [1.5, 4.5] and x.tolist() == [1.5, 4.5], (x, y)
                x = torch.tensor([1.0, 3.0], dtype=dtype) * (r + 1)
                assert s.all_reduce(x, reduce_op="sum").tolist() == [3.0, 9.0] == x.tolist()
            for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
                x = torch.tensor([100, 1 + r], dtype=dtype)
                assert s.all_reduce(x.clone()).tolist() == [100.0, 1.5]
                assert s.all_reduce(x.clone(), reduce_op="sum").tolist() == [200, 3]
                assert s.all_reduce(x.clone(), reduce_op="max").tolist() == [100, 2]
                assert s.all_reduce(x.clone(), reduce_op="min").dtype == dtype
            x = torch.tensor([True, r == 0])
            assert s.all_reduce(x, reduce_op="min").tolist() == [True, False] and s.all_reduce(x, reduce_op="sum").tolist() == [2, 1]
            assert s.all_reduce(torch.tensor(float(r)), reduce_op="MEAN").item() == 0.5
            assert s.all_reduce(torch.ones(3, 2).t() * r, reduce_op="sum").tolist() == [[1.0] * 3] * 2
            try:
                s.all_reduce(torch.ones(1), reduce_op="median")
            except ValueError as error:
                assert "median" in str(error) and "'min'" in str(error)
            else:
                raise AssertionError

            assert s.all_gather(torch.tensor([r, 10 * r])).tolist() == [[0, 0], [1, 10]]
            assert s.all_gather(torch.tensor(float(r))).tolist() == [0.0, 1.0]
            assert s.all_gather(torch.arange(6.0).view(2, 3).t() + r).shape == (2, 3, 2)
            x = torch.tensor([1.0, 2.0], requires_grad=True)
            assert not s.all_gather(x).requires_grad
            # d/dx_q of the sum over ranks p of sum(gathered * (p + 1)) is 1 + 2
            (s.all_gather(x, sync_grads=True) * (r + 1) * torch.tensor([[1.0], [5.0]])).sum().backward()
            assert x.grad.tolist() == [3.0, 3.0] if r == 0 else [15.0, 15.0], x.grad

            assert s.broadcast({"rank": r}) == {"rank": 0} and s.broadcast(("of", r), src=1) == ("of", 1)
            assert s.reduce_boolean_decision(True) and not s.reduce_boolean_decision(r == 0)
            assert s.reduce_boolean_decision(r == 0, all=False) and not s.reduce_boolean_decision(False, all=False)
            s.barrier("done")
            say(f"rank {r} done")

        run(main)
    """)
    assert program.code == 0, program.err
    assert sorted(program.out.splitlines()) == ["rank 0 done", "rank 1 done"]
    assert program.err == ""
    assert program.orphans == []


def test_training_is_that_of_one_process(run_program: Callable[..., Any]) -> None:
    program = run_program("""
        def halving(state, bucket):
            state.append(bucket.buffer().numel())
            return dist.all_reduce(bucket.buffer().div_(2), async_op=True).get_future().then(lambda future: future.value()[0])

        def main(s, exact=True):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
            batches = torch.randn(4, 16, 4)
            wrapped = s.setup_module(model)
            assert type(wrapped) is nn.parallel.DistributedDataParallel and s.setup_module(nn.Tanh()).__class__ is nn.Tanh
            with s.no_backward_sync(wrapped):
                wrapped(batches[s.global_rank]).square().mean().backward()
            lone = [p.grad.clone() for p in model.parameters()]
            rows = s.all_gather(lone[0])
            assert not torch.equal(rows[0], rows[1])
            with s.no_backward_sync(wrapped, enabled=False):
                wrapped(batches[2 + s.global_rank]).square().mean().backward()
            rows = s.all_gather(model[0].weight.grad)
            assert torch.equal(rows[0], rows[1])
            if s.is_global_zero:
                say([round(p.grad.sum().item(), 6) for p in model.parameters()])

        run(main)
        def second(s):
            main(s)
            assert sum(hook_state) == 2 * 0 + 49, hook_state
        hook_state = []
        run(second, ddp_comm_state=hook_state, ddp_comm_hook=lambda state, bucket: None, ddp_comm_wrapper=lambda hook: halving)
        run(main, gradient_as_bucket_view=True, find_unused_parameters=True, timeout=20)

        from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import PostLocalSGDState, post_localSGD_hook

        def local(s):
            state.subgroup = dist.new_subgroups(1)[0]  # every process reduces alone
            model = nn.Linear(3, 1)
            wrapped = s.setup_module(model)
            optimizer = s.setup_optimizer(torch.optim.SGD(model.parameters(), 0.1))
            agree = []
            for step in range(5):
                optimizer.zero_grad()
                wrapped(torch.randn(4, 3, generator=torch.Generator().manual_seed(2 * step + s.global_rank))).sum().backward()
                optimizer.step()
                rows = s.all_gather(model.weight.detach())
                agree.append(torch.allclose(rows[0], rows[1]))
            # gradients are reduced in step 0 only, and weights averaged after the steps 1 and 3
            assert agree == [True, True, False, True, False], agree

        state = PostLocalSGDState(process_group=None, subgroup=None, start_localSGD_iter=1, post_local_gradient_allreduce=False)
        run(local, ddp_comm_state=state, ddp_comm_hook=post_localSGD_hook, model_averaging_period=2)
    """)
    assert program.code == 0, program.err
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    for batch in torch.randn(4, 16, 4):
        (model(batch).square().mean() / 2).backward()
    lines = [torch.tensor(eval(line)) for line in program.out.splitlines()]
    assert len(lines) == 3
    for line in lines:
        torch.testing.assert_close(line, torch.stack([parameter.grad.sum() for parameter in model.parameters()]), atol=2e-6, rtol=0)


def test_a_program_makes_several_runs(run_program: Callable[..., Any]) -> None:
    program = run_program("""
        seen = []
        def main(s):
            seen.append(os.getpid())
            return s.all_reduce(torch.tensor(s.global_rank), reduce_op="sum").item()

        environment = LightningEnvironment()
        strategy = connected(environment)
        launcher = ScriptLauncher(environment, 2)
        def whole():
            strategy.setup_environment()
            total = main(strategy)
            strategy.teardown()
            assert not dist.is_initialized()
            return total
        assert [launcher.launch(whole), launcher.launch(whole), run(main), run(main)] == [1, 1, 1, 1]
        assert strategy.broadcast("mine") == "mine" and strategy.barrier() is None
        try:
            strategy.all_gather(torch.ones(1))
        except RuntimeError as error:
            assert "outside of a run" in str(error)
        try:
            run(main, devices=3)
        except RuntimeError as error:
            say(error)
        assert set(seen) == {os.getpid()}

        # a process group that the program makes itself is used, and left alone
        rank = environment.local_rank()
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{environment.main_port}", rank=rank, world_size=2)
        assert run(main) == 1
        assert dist.is_initialized()
        dist.destroy_process_group()
    """)
    assert program.code == 0, program.err
    assert program.out.count("2 processes were started, and devices and num_nodes ask for 3") == 2
    assert program.orphans == []
