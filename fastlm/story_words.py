"""The words that stories are made of, sorted by kind so that every filler fits where it is put.

Level 0: data only. A line `name: a, b, c` is a rule with one alternative per word; lines after it
that begin with a space belong to it. An alternative may itself hold marks of the little language
that fastlm.stories explains.
"""

PEOPLE = """
girl: Lily, Mia, Anna, Sara, Emma, Lucy, Nora, Ella, Zoe, Ruby, Rosa, Maya, Ivy, Clara, Alice, Jane,
 Molly, Daisy, Poppy, Grace, Hannah, Leah, Nina, Tara, Amy, Kate, Kim, Sue, Betty, Penny, Jill, Rose,
 Wendy, Tina, Mary, Olive, Hazel, June, April, Eva, Ada, Iris, Stella, Flora, Sofia, Elena, Lena, Gina,
 Pia, Fay, May, Bella, Carla, Dora, Edith, Freya, Greta, Heidi, Ingrid, Julia, Karin, Laura, Mona,
 Nell, Opal, Paula, Rita, Selma, Thea, Una, Vera, Willa, Yara, Zara, Amina, Leila, Priya, Meera, Mei,
 Yuki, Hana, Noor, Fatima, Rania, Luz, Carmen, Ines, Marta, Tess, Peggy, Dolly, Becky, Sally, Holly
boy: Tom, Tim, Ben, Sam, Max, Jack, Leo, Finn, Noah, Adam, Luke, Oscar, Henry, Billy, Jake, Dan, Joe,
 Nick, Peter, Paul, Mark, Bob, Fred, George, Harry, Ian, Kevin, Liam, Mike, Ned, Owen, Pete, Ralph,
 Simon, Ted, Victor, Will, Zack, Alex, Arthur, Bruno, Carlos, David, Eric, Felix, Gus, Hugo, Ivan,
 Jonas, Karl, Lars, Milo, Nils, Otto, Pablo, Ravi, Rohan, Stan, Toby, Umar, Vik, Walt, Yusuf, Omar,
 Amir, Kenji, Taro, Diego, Mateo, Luis, Rico, Emil, Anton, Edgar, Frank, Glen, Hank, Jasper, Kit,
 Lewis, Miles, Nathan, Philip, Roger, Seth, Theo, Wade, Andy, Charlie, Danny, Eddie, Robin
she-animal: Pip, Dot, Honey, Clover, Maple, Misty, Pearl, Ginger, Cocoa, Bonnie, Cherry, Willow, Fern,
 Lulu, Mimi, Nutmeg, Peaches, Pixie, Rosie, Snowy, Sunny, Tilly, Velvet, Winnie, Bluebell, Acorn,
 Buttons, Candy, Dusty, Goldie, Juniper, Kiki, Luna, Minnie, Nibbles, Petal, Sugar, Twinkle
he-animal: Biscuit, Bumble, Chip, Digger, Fuzzy, Grumble, Hopper, Jumper, Rusty, Scout, Shadow, Smoky,
 Spike, Spot, Tiny, Waffles, Whiskers, Ziggy, Bandit, Barney, Bolt, Bramble, Chester, Cricket, Dash,
 Ernie, Flip, Gizmo, Huey, Jasper, Moss, Pepper, Pickle, Pogo, Rocky, Snuffles, Thistle, Tumble
she-elder: mom, mother, grandma, aunt, big sister, mom, grandmother
he-elder: dad, father, grandpa, uncle, big brother, dad, grandfather
species: rabbit, mouse, squirrel, fox, bear, hedgehog, kitten, puppy, badger, otter, mole, raccoon,
 beaver, piglet, lamb, frog, duckling, owl, pony, monkey, elephant, turtle, deer, hamster, panda,
 koala, chipmunk, goat
home mouse: hole, nest
home bear: cave, den
home fox: den
home owl: nest, hollow tree
home duckling: nest
size: little, small, tiny, young, little, little
coat: brown, gray, white, black, golden, spotted, fluffy, furry, round, plump, silver, reddish, striped,
 fuzzy, soft, skinny
trait: kind, cheerful, curious, gentle, clever, happy, playful, lively, friendly, quiet, brave, polite,
 thoughtful, sweet, funny, busy, careful, patient, helpful, honest, dreamy, bright, jolly, eager,
 shy, loving, silly, merry, adventurous, energetic, imaginative, sleepy, calm, good, smart, wild, noisy,
 stubborn, proud, messy
helper: baker, farmer, gardener, fisherman, mailman, carpenter, painter, shopkeeper, shepherd, doctor,
 teacher, librarian, captain, cook, tailor, neighbor, woodcutter, beekeeper, miller, potter
"""

THINGS = """
color: red, blue, green, yellow, purple, orange, pink, white, brown, golden, silver, black, gray
adj-thing: shiny, soft, old, new, tiny, lovely, special, smooth, wooden, bright, pretty, striped
toy: ball, kite, doll, teddy bear, toy car, toy boat, toy train, drum, yo-yo, top, puppet, toy robot,
 truck, jump rope, whistle, toy plane, rag doll, toy horse, toy duck, marble, balloon, toy dinosaur,
 toy rocket, music box, tambourine, flute, stuffed lion, toy sheep, toy castle, magnet
keepsake: ring, scarf, hat, button, coin, ribbon, mitten, book, shell, key, locket, feather, bell,
 necklace, bracelet, pencil, notebook, badge, glove, purse, comb, spoon, stone, whistle, medal, brooch,
 pin, card, lantern, compass
fragile: vase, cup, plate, lamp, bowl, mirror, teapot, jar, clock, picture frame, glass, candle holder,
 pitcher, flower pot, window, snow globe
mendable: kite, chair, wagon, swing, doll, toy train, music box, birdhouse, basket, toy boat, drum,
 umbrella, bench, little table, ladder, sled, fence, wheelbarrow, puppet, rocking horse
mendwith: some glue and a piece of string, a hammer and two nails, a strip of strong tape, a needle and
 thread, some wire and a drop of glue, a new piece of wood, a bit of rope, a patch and some paste
fruit: apple, pear, plum, peach, banana, orange, fig, strawberry, grape, melon, lemon, apricot, berry
treat: cookie, muffin, pancake, sandwich, bun, cupcake, carrot, nut, candy, biscuit, cracker, roll,
 walnut, tart, waffle, dumpling, pretzel, doughnut
food: soup, bread and butter, cheese, pie, noodles, rice, porridge, toast with jam, honey, salad, stew,
 beans, corn, potatoes, eggs, mushrooms, peas, oatmeal, pudding, popcorn, tomato soup, warm bread
drink: milk, juice, cocoa, tea, water, lemonade
bake: cake, pie, loaf of bread, batch of cookies, tray of muffins, pizza, tart, pan of brownies, pudding
flavor: apple, berry, honey, lemon, carrot, cherry, pumpkin, nut, banana, cinnamon, blueberry, plum
plant: sunflower, rose, tulip, tomato plant, pumpkin, daisy, apple tree, bean plant, lily, cherry tree,
 strawberry plant, poppy, pea plant, lemon tree, violet, marigold, corn plant
tree: oak, maple, birch, pine tree, willow, apple tree, elm, fir, chestnut tree, cherry tree
flower: daisies, tulips, roses, poppies, violets, lilies, buttercups, bluebells, clover, dandelions
bird: robin, sparrow, blackbird, crow, dove, swallow, woodpecker, finch, cuckoo, magpie, lark, starling
bug: butterfly, bee, ladybug, beetle, dragonfly, grasshopper, ant, snail, caterpillar, moth, spider,
 firefly, cricket
creature: bird, kitten, squirrel, baby rabbit, puppy, duckling, hedgehog, lamb, baby owl, mouse, turtle,
 baby goat, chick, fawn
pet: dog, cat, kitten, puppy, hamster, parrot, rabbit, turtle, pony, guinea pig
petfood: bowl of milk, handful of seeds, piece of bread, juicy leaf, bit of cheese, slice of apple,
 bowl of warm porridge
treasure: coins, shells, marbles, gold buttons, glass beads, old letters, shiny stones, silver spoons
build: tower, house, fort, boat, bridge, castle, raft, cart, treehouse, tent, wall, swing, slide
material: sticks, blocks, stones, logs, planks, cardboard boxes, branches, old boards, crates
instrument: drum, flute, violin, guitar, trumpet, piano, harp, bell, horn, banjo
game: hide-and-seek, tag, catch, leapfrog, hopscotch, a guessing game, pirates, kings and queens, bakers,
 explorers, a jumping game, a counting game, a word game, a card game
art: picture, song, dance, poem, story, card
dress: boots, hat, coat, scarf, socks, mittens, sweater, jacket, cap
"""

SCENES = """
place: park, garden, forest, beach, meadow, farm, playground, pond, orchard, yard, hill, river, market,
 field
spot park: under a bench, behind the slide, near the fountain, by the tall gate, in the sandbox,
 behind a [big|thick|round] bush, near the swings, beside the path
spot garden: under the [tomato|bean] plants, behind the shed, beside the gate, in the [long|wet] grass,
 near the [rose|berry] bushes, next to the watering can, under the [wooden|old] bench, by the wall
spot forest: under a [big|wide] fern, behind a fallen log, beside a <tree>, in a pile of leaves, near a
 [mossy|gray] rock, in a hollow stump, under the [prickly|low] bushes, by the little path
spot beach: under a [wet|flat] rock, behind a sand dune, near the water, beside a [broken|blue] boat,
 in a tide pool, under a striped umbrella, among the shells, next to a pile of seaweed
spot meadow: among the <flower>, behind a [big|gray] stone, beside the stream, under a lone <tree>, in the
 tall grass, near the fence, by a molehill, next to a haystack
spot farm: behind the barn, under the [red|old] tractor, in the hay, beside the chicken house, near the
 well, by the pig pen, in the stable, under the [water|feed] trough
spot playground: under the slide, behind the swings, near the seesaw, in the sandbox, beside the climbing
 frame, by the gate, under a bench, next to the merry-go-round
spot pond: among the reeds, under the [little|wooden] bridge, behind a [mossy|big] rock, beside the water,
 near the lily pads, by a <tree>, in the mud, next to a duck's nest
spot orchard: under the [first|oldest|tallest] tree, behind a [full|empty] basket, beside the ladder, in
 the wet grass, near the wall, by the wagon, under some leaves, next to a stack of crates
spot yard: under the porch, behind the trash can, beside the doghouse, near the fence, in the flower bed,
 by the back steps, under the wheelbarrow, next to the woodpile
spot hill: behind a [round|gray] rock, under a [crooked|lone] <tree>, beside the path, in the tall grass,
 near the top, by the old wall, among the <flower>, next to a thorn bush
spot river: under the bridge, behind a [smooth|big] rock, among the reeds, beside the dock, near the
 waterfall, by an old boat, in the sand, next to a <tree>
spot market: under a [fruit|fish] stand, behind the flower seller, beside a cart, near the fountain, by
 the bakery, in an empty crate, under a table, next to a [big|tall] barrel
spot field: behind the scarecrow, in the tall corn, beside the ditch, near the fence, under a [lone|big]
 <tree>, by the dirt road, among the <flower>, next to a hay bale
indoors: under the bed, behind the couch, in the closet, on the top shelf, beside the stove, under the
 kitchen table, in the laundry basket, behind the curtains, in the toy box, near the front door
village: village, town, valley, farm, cottage, forest, land
near: a [quiet|deep|wide|blue] [lake|river|stream|pond], a [green|tall|steep|round] hill, the
 [dark|green|old|big] [woods|forest], the [blue|wide] sea, a [busy|big] [market|mill|road], a
 [stone|wooden] bridge, a [sunny|flowery] meadow, a field of <flower>, an old [church|windmill|barn]
fair: sunny, warm, bright, lovely, clear, fine, beautiful, breezy, mild, cool, quiet
season: spring, summer, autumn
part: morning, afternoon, day, evening, morning, afternoon
weekday: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday
sound: a [soft|strange|funny|loud] [noise|sound|squeak|rustle|thump], a [tiny|sad|quiet] [cry|voice], a
 [gentle|slow] tapping, a [sharp|loud] crack, a [low|long] hum
smell: fresh bread, wet grass, sweet <flower>, warm <flavor> pie, pine needles, ripe fruit, wood smoke
hobby: draw [pictures|animals|maps], climb trees, play <game>, sing [songs|loudly], read [books|stories],
 dance, collect [<color> stones|feathers|leaves|shells], paint, run [fast|around], bake, dig holes,
 look at the [stars|clouds|moon], splash in puddles, tell [jokes|stories|riddles], build things, swim,
 pick <flower>, play the <instrument>, chase <bug+>, make [hats|crowns] out of leaves, watch the <bird+>,
 ask questions, help {his} {E}, fly kites, jump over [puddles|logs], roll down hills
walked: walked, ran, went, hurried, skipped, wandered, strolled, raced, marched
found: found, saw, spotted, noticed, discovered
looked: looked, searched, hunted, checked, peeked
glad: happy, glad, pleased, delighted, cheerful, joyful, excited, thankful
proud: proud, happy, pleased, delighted, warm inside, very big, strong
sad: sad, upset, unhappy, gloomy, miserable, down, heartbroken, sorry
scared: scared, afraid, frightened, nervous, worried, anxious
softly: softly, quietly, gently, kindly, slowly, calmly, in a [soft|low|gentle|kind] voice, with a
 [smile|nod|little smile|grin|warm smile], after a moment
brightly: happily, brightly, cheerfully, loudly, with a [big|wide] [smile|grin], with a laugh,
 jumping up and down, proudly, at once, in an excited voice
sadly: sadly, quietly, in a [small|shaky|tiny] voice, softly, looking down, with a sigh, almost crying
"""

IRREGULAR_PLURALS = {
    "was": "were",
    "is": "are",
    "it": "they",
    "mouse": "mice",
    "puppy": "puppies",
    "child": "children",
    "loaf of bread": "loaves of bread",
    "batch of cookies": "batches of cookies",
}
