"""The simulators against states written by hand, and what holds for every state."""

from itertools import chain
from random import Random

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from jepalm.data.worlds import WORLDS, Grid, Home
from jepalm.data.worlds.drawing import DRAWS, walk
from jepalm.data.worlds.home import ROOMS, THINGS
from jepalm.errors import UsageError


@st.composite
def worlds(draw):
    kind = WORLDS[draw(st.sampled_from(sorted(WORLDS)))]
    size = draw(st.sampled_from(kind.sizes))
    objects = draw(st.sampled_from(kind.object_counts))
    if kind is Grid:
        objects = min(objects, size)  # a small room does not hold more
    return kind(size, objects, draw(st.integers(0, 4)), draw(st.integers(0, 4)))


def home(noise=0, distractors=0):
    return Home(3, 2, noise, distractors)


def changed(world, text, action):
    """The text after an action without noise; None where it is illegal."""
    state = world.parse(text)
    after = world.effect(state, action)
    assert world.legal(state, action) == (after is not None)
    assert world.text(world.step(state, action, Random(0))) == (world.text(after) if after else text)
    return None if after is None else world.text(after)


@given(worlds(), st.sampled_from(DRAWS), st.integers(0, 10**6))
@limits(max_examples=60)
def test_a_text_says_the_whole_state(world, draw, seed):
    rng = Random(seed)
    for made in walk(world, world.sample(rng, draw), rng, 3, draw):
        assert world.parse(world.text(made.state)) == made.state
        assert world.text(made.state).isprintable() or world.name == "grid"
    assert world.parse(world.text(made.next_state)) == made.next_state


def test_every_compositional_house_has_a_combination_that_training_never_has():
    for seed in range(300):
        house = Home(6, 1, 0, 0)
        state = house.sample(Random(seed), "compositional")
        verbs = (f"{verb} the {thing}" for verb in ("take", "drop") for thing, _ in state.things)
        assert house.unseen_state(state) or any(house.unseen_action(state, action) for action in verbs)


@given(worlds(), st.integers(0, 10**6))
@limits(max_examples=60)
def test_facts_stand_where_they_are_said_to_stand(world, seed):
    state = world.sample(Random(seed))
    text, facts = world.text(state), world.facts(state)
    assert [text[fact.start : fact.end] for fact in facts.values()] == [fact.value for fact in facts.values()]
    assert [(f.start, f.end) for f in facts.values() if f.kind == "random"] == world.noise_spans
    hidden = [place for place, (a, b) in enumerate(zip(text, world.masked(text), strict=True)) if a != b]
    assert hidden == [place for start, end in world.noise_spans for place in range(start, end)]


@given(worlds(), st.integers(0, 10**6))
@limits(max_examples=40)
def test_a_fact_keeps_its_place_and_a_still_one_its_value(world, seed):
    rng = Random(seed)
    made = walk(world, world.sample(rng), rng, 4)
    first = world.facts(made[0].state)
    for step in made:
        facts = world.facts(step.next_state)
        assert list(facts) == list(first)
        assert [fact[2:] for fact in facts.values()] == [fact[2:] for fact in first.values()]
        assert all(facts[name].value == fact.value for name, fact in first.items() if name in world._still)


@given(worlds(), st.sampled_from(DRAWS), st.integers(0, 10**6))
@limits(max_examples=40)
def test_an_illegal_action_changes_random_facts_alone(world, draw, seed):
    rng = Random(seed)
    state = world.sample(rng, draw)
    for action in (*world.actions(state), "fly", "go", "open  the", "make a/b/c"):
        before, after = world.text(state), world.text(world.step(state, action, rng))
        if not world.legal(state, action):
            assert world.masked(after) == world.masked(before)


@pytest.mark.parametrize("world", [Home(2, 1), Grid(4, 1)], ids=lambda world: world.name)
def test_actions_stay_sayable_and_sometimes_legal(world):
    for seed in range(20):
        state = world.sample(Random(seed))
        said = world.actions(state)
        assert len(set(said)) == len(said)
        assert max(map(len, said)) <= 32
        for action in said:
            assert world.actions(world.step(state, action, Random(0))) == said


@pytest.mark.parametrize(
    ("before", "action", "after"),
    [
        (
            "you hall, hall dim, bath open dim, loft shut lit",
            "go to the bath",
            "you bath, hall dim, bath open",
        ),
        (
            "you bath, hall dim, bath open dim, loft shut lit",
            "go to the hall",
            "you hall, hall dim, bath open",
        ),
        ("you hall, hall dim, bath open dim, loft shut lit", "open the loft door", "loft open lit"),
        ("you loft, hall dim, bath open dim, loft shut lit", "open the loft door", "loft open lit"),
        ("you hall, hall dim, bath open dim, loft shut lit", "shut the bath door", "bath shut dim"),
        (
            "you hall, hall dim, bath open dim, loft shut lit",
            "switch on the light",
            "you hall, hall lit, bath",
        ),
        ("you loft, hall dim, bath open dim, loft shut lit", "switch off the light", "loft shut dim"),
        (
            "you bath, hall dim, bath open dim, loft shut lit, lamp bath, drum hall",
            "take the lamp",
            "lamp held, d",
        ),
        (
            "you bath, hall dim, bath open dim, loft shut lit, lamp held, drum held",
            "drop the drum",
            "drum bath",
        ),
    ],
)
def test_home(before, action, after):
    result = changed(home(), before, action)
    assert after in result
    assert len(result) == len(before)
    assert sum(a != b for a, b in zip(before.split(", "), result.split(", "), strict=True)) == 1


@pytest.mark.parametrize(
    "action",
    [
        "go to the bath",  # shut
        "go to the hall",  # there
        "open the loft door",  # open
        "shut the bath door",  # shut
        "switch on the light",  # lit
        "take the lamp",  # elsewhere
        "take the drum",  # held
        "drop the lamp",  # not held
        "take the vase",  # no such thing
        "go to the shed",  # no such room
        "lick the lamp",
    ],
)
def test_what_home_does_not_allow(action):
    before = "you hall, hall lit, bath shut dim, loft open lit, lamp bath, drum held"
    assert changed(home(), before, action) is None


@pytest.mark.parametrize("action", ["open the bath door", "go to the bath", "go to the loft"])
def test_from_a_room_only_its_own_door_is_near(action):
    assert changed(home(), "you loft, hall lit, bath shut dim, loft open lit", action) is None


def test_nobody_walks_out_through_a_shut_door():
    assert changed(home(), "you loft, hall lit, bath open dim, loft shut lit", "go to the hall") is None


MAP = """bag a-
######
#.1@.#
#.b.A#
#2..##
#B...#
######"""


@pytest.mark.parametrize(
    ("action", "rows"),
    [("go right", "bag a-,#.1.@#"), ("go down", "bag a-,#.1..#,#.b@A#"), ("push left", "bag a-,#1@..#")],
)
def test_grid_moves_and_pushes(action, rows):
    after = changed(Grid(4, 3, 0, 0), MAP, action)
    bag, *rest = rows.split(",")
    expected = MAP.split("\n")
    expected[0], expected[2 : 2 + len(rest)] = bag, rest
    assert after == "\n".join(expected)


def test_grid_takes_a_key_into_the_sorted_bag_and_spends_it_on_its_door():
    world = Grid(4, 3, 0, 0)
    text = MAP.replace("bag a-", "bag c-").replace("@", ".").replace("b.A", "b@A")
    text = changed(world, text, "take left")
    assert text.split("\n")[0] == "bag bc"
    assert text.split("\n")[3] == "#..@A#"
    text = text.replace("@", ".").replace("#2..", "#@..")
    text = changed(world, text, "open down")
    assert text.split("\n")[0] == "bag c-"
    assert text.split("\n")[5] == "#....#"


@pytest.mark.parametrize(
    "action", ["go up", "go left", "push up", "push right", "take right", "take down", "open down", "go"]
)
def test_what_grid_does_not_allow(action):
    assert changed(Grid(4, 3, 0, 0), MAP, action) is None


@pytest.mark.parametrize(
    ("row", "action"),
    [
        ("#1@.A#", "push left"),  # a wall behind
        ("#31@.#", "push left"),  # a box behind
        ("#..@b#", "push right"),  # a key is no box
        ("#..@A#", "go right"),  # a door is no floor
        ("#..@b#", "go right"),
        ("#..@C#", "open right"),  # another key
    ],
)
def test_what_stands_in_the_way_on_the_grid(row, action):
    text = f"bag a-\n######\n{row}\n#....#\n#..#.#\n#.#..#\n######"
    assert changed(Grid(4, 3, 0, 0), text, action) is None


def test_random_facts_are_drawn_evenly_whatever_the_action():
    world = home(noise=1)
    state = world.parse("sky fog, you hall, hall lit, bath shut dim, loft open lit")
    rng = Random(1)
    seen = [world.step(state, "fly", rng).noise[0] for _ in range(400)]
    assert all(70 < seen.count(value) < 130 for value in ("dry", "fog", "icy", "wet"))


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_a_further_object_is_the_only_news_of_longer(name):
    world = WORLDS[name](WORLDS[name].default_size, 3)

    def count(seed, draw):
        return world.n_objects(world.sample(Random(seed), draw))

    assert {count(seed, "longer") for seed in range(50)} == {4}
    assert {count(seed, "seen") for seed in range(50)} == {1, 2, 3}
    assert not any(world.unseen_state(world.sample(Random(seed), "longer")) for seed in range(50))


@pytest.mark.parametrize("name", sorted(WORLDS))
@pytest.mark.parametrize("draw", ["seen", "longer"])
def test_training_never_sees_what_compositional_has(name, draw):
    world = WORLDS[name](WORLDS[name].sizes[-1], 3)
    for seed in range(60):
        rng = Random(seed)
        steps = walk(world, world.sample(rng, draw), rng, draw=draw)
        assert not any(world.unseen(step.state, step.action) for step in steps)


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_every_way_to_be_compositional_comes_up(name):
    world = WORLDS[name](WORLDS[name].default_size, 3)
    by_state = by_action = 0
    for seed in range(60):
        rng = Random(seed)
        for step in walk(world, world.sample(rng, "compositional"), rng, draw="compositional"):
            by_state += world.unseen_state(step.state)
            by_action += world.unseen_action(step.state, step.action) and not world.unseen_state(step.state)
    assert by_state > 100
    assert by_action > 10


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_every_verb_is_done_often_enough_to_be_learned(name):
    kind = WORLDS[name]
    world = kind(kind.default_size, kind.default_objects)
    walks = [walk(world, world.sample(rng), rng) for rng in map(Random, range(500))]
    done = [made.action.split()[0] for made in chain(*walks) if made.legal]
    said = {made.action.split()[0] for made in chain(*walks)}
    assert {verb for verb in said if done.count(verb) < 0.03 * len(done)} == set()


def test_every_name_by_itself_is_seen():
    world = Home(3, 3)
    words = {word for seed in range(300) for word in world.text(world.sample(Random(seed))).split(", ")}
    seen = " ".join(words)
    assert all(part in seen for part in (*ROOMS, *THINGS))


def test_objects_are_counted_wherever_they_are():
    assert Grid(4, 3, 0, 0).n_objects(Grid(4, 3, 0, 0).parse(MAP)) == 4  # 1, 2, a with A, b with B
    assert home().n_objects(home().parse("you hall, hall lit, bath shut dim, loft open dim, lamp held")) == 1


def test_what_is_left_out_is_known_by_hand():
    world = home()
    rooms = "you hall, hall lit, {} shut dim, {} open lit, {} hall"
    assert world.unseen_state(world.parse(rooms.format("bath", "cell", "book"))) is False
    assert world.unseen_state(world.parse(rooms.format("bath", "shop", "book"))) is True  # 0 and 0 + 5
    assert world.unseen_state(world.parse(rooms.format("bath", "cell", "lamp"))) is True  # 0 and 0
    state = world.parse(rooms.format("loft", "cell", "lamp"))
    assert not world.unseen_state(state)
    assert world.unseen(state, "take the lamp")
    assert not world.unseen(state, "drop the lamp")


def test_a_plan_is_a_shortest_one_and_works():
    world = home(noise=1)
    start = world.parse("sky fog, you hall, hall lit, bath shut dim, loft open lit, lamp bath")
    goal = world.parse("sky wet, you hall, hall lit, bath open dim, loft open lit, lamp hall")
    plan = world.plan(start, goal, 5)
    assert plan[:3] == ["open the bath door", "go to the bath", "take the lamp"]
    assert plan[3:] == ["go to the hall", "drop the lamp"]
    assert world.plan(start, goal, 4) is None
    assert world.plan(start, start, 0) == []
    for action in plan:
        start = world.step(start, action, Random(3))
    assert world.reached(start, goal)


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_a_goal_is_as_far_away_as_asked(name):
    world = WORLDS[name](WORLDS[name].default_size, 2)
    found = 0
    for seed in range(6):
        state = world.sample(Random(seed), "longer")
        goal = world.goal(state, Random(seed), 3)
        if goal is not None:  # one may be walled in
            found += 1
            assert len(world.plan(state, goal, 3)) == 3
            assert not world.reached(state, goal)
    assert found >= 4


def test_nothing_is_far_away_for_one_who_is_walled_in():
    walled = "bag --\n######\n#@##.#\n###..#\n#....#\n#....#\n######"
    world = Grid(4, 3, 0, 0)
    assert world.goal(world.parse(walled), Random(0), 1) is None


@pytest.mark.parametrize(
    ("world", "text", "why"),
    [
        (home(noise=1), "you hall, hall lit", "it does not begin with sky"),
        (home(), "", "it does not say door and light of 2 rooms"),
        (home(), "you hall, hall lit, bath shut dim", "it does not say door and light of 2 rooms"),
        (home(), "you hall, hall lit, bath shut dim, loft ajar dim", "it does not say door and light"),
        (home(), "you hall, hall lit, bath shut dim, attc open dim", "it has no room 'attc'"),
        (home(), "you hall, hall lit, bath shut dim, bath open dim", "it names a room twice"),
        (home(), "you shed, hall lit, bath shut dim, loft open dim", "in which of its rooms you are"),
        (home(), "you hall, hall red, bath shut dim, loft open dim", "whether the hall is lit or dim"),
        (home(), "you hall, hall lit, bath shut dim, loft open dim, lamp shed", "neither held nor in one"),
        (home(), "you hall, hall lit, bath shut dim, loft open dim, lump hall", "it has no thing 'lump'"),
        (home(), "you hall, hall lit, bath shut dim, loft open dim, lamp-hall", "its facts are not in order"),
        (Grid(4, 3, 0, 0), "bag --", "it has no map of 4 rows of 4 cells"),
        (Grid(4, 3, 0, 0), MAP.replace("@", "."), "you (@) are not in one place"),
        (Grid(4, 3, 0, 0), MAP.replace("2", "1"), "it shows a thing twice"),
        (Grid(4, 3, 0, 0), MAP.replace("2", "z"), "it has no thing 'z'"),
        (Grid(4, 3, 0, 0), MAP.replace("bag a-", "bag 3-"), "its bag does not hold 2 keys or fewer"),
        (Grid(4, 3, 0, 0), MAP.replace("bag a-", "bag da"), "not in alphabetical order"),
        (Grid(4, 3, 0, 0), MAP.replace("bag", "box"), "its facts are not in order"),
    ],
)
def test_a_text_that_is_no_state_is_refused_with_the_reason(world, text, why):
    with pytest.raises(UsageError) as refused:
        world.parse(text)
    assert f"no state of the {world.name} world: " in refused.value.message
    assert why in refused.value.message
    assert refused.value.hint.startswith("such as ")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Home(1, 1), "the home world has no 1 rooms"),
        (lambda: Grid(3, 1), "the grid world has no 3 cells a side"),
        (lambda: Home(3, 1, noise=5), "no 5 random facts"),
        (lambda: Home(3, 1, distractors=-1), "no -1 distractors"),
        (lambda: Grid(4, 7), "a grid of 4 cells a side has no room for 7 objects"),
    ],
)
def test_sizes_that_a_world_does_not_have(make, why):
    with pytest.raises(UsageError, match=why):
        make()
