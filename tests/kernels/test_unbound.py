"""Variables that may have no value where they are read are found, and those that always have one are not."""

import pytest

from kernelmill.kernels.functions.unbound import unbound_reads


def unbound_if(x):
    if x:
        y = 1
    return y


def unbound_for(x):
    for i in x:
        y = i
    return y


def unbound_try(x):
    while x:
        if x == 2:
            z = 1
            break
        x -= 1
    return z


def unbound_after_del(x):
    y = 1
    del y
    return y  # noqa: F821


def unbound_cell(x):
    if x:
        y = 1
    return (lambda: y)()


def bound(x, *rest, k=1, **more):
    if x:
        a = 1
    else:
        a = 2
    for i in rest:
        b = i + a
        c = b
        if c:
            continue
        k += c
    while True:
        d = 1
        if k:
            break
    try:
        e = int(x)
    except ValueError:
        e = 0
    f = [g for g in rest if g]
    if a == 1:
        return more
    elif a == 2:
        h = 1
    else:
        raise ValueError(a)
    return d + e + h + len(f) + (lambda: a)()


@pytest.mark.parametrize(
    ("function", "name"),
    [(unbound_if, "y"), (unbound_for, "y"), (unbound_try, "z"), (unbound_after_del, "y"), (unbound_cell, "y")],
)
def test_a_variable_that_may_have_no_value_is_found_with_its_line(function, name):
    found = list(unbound_reads(function.__code__))
    assert [one for one, _ in found] == [name]
    assert function.__code__.co_firstlineno < found[0][1] <= function.__code__.co_firstlineno + 7


def test_variables_that_always_have_a_value_are_not():
    assert list(unbound_reads(bound.__code__)) == []
