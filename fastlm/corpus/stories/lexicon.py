"""The words of the stories, sorted by kind so that every word fits where it is used.

This file is data. A line `name: a, b, c` is a rule with one alternative per word; lines after it
that begin with a space continue it. An alternative may contain marks of the template language that
fastlm.corpus.stories explains. SYNONYMS lists words of the sentences and plots, and what may
replace them anywhere.
"""

PEOPLE = """
girl: Lily, Mia, Anna, Sara, Emma, Lucy, Nora, Ella, Zoe, Ruby, Rosa, Maya, Ivy, Clara, Alice, Jane,
 Molly, Daisy, Poppy, Grace, Hannah, Leah, Nina, Tara, Amy, Kate, Kim, Sue, Betty, Penny, Jill,
 Rose, Wendy, Tina, Mary, Olive, Hazel, June, April, Eva, Ada, Iris, Stella, Flora, Sofia, Elena,
 Lena, Gina, Pia, Fay, May, Bella, Carla, Dora, Edith, Freya, Greta, Heidi, Ingrid, Julia, Karin,
 Laura, Mona, Nell, Opal, Paula, Rita, Selma, Thea, Una, Vera, Willa, Yara, Zara, Amina, Leila,
 Priya, Meera, Mei, Yuki, Hana, Noor, Fatima, Rania, Luz, Carmen, Ines, Marta, Tess, Peggy, Dolly,
 Becky, Sally, Holly
boy: Tom, Tim, Ben, Sam, Max, Jack, Leo, Finn, Noah, Adam, Luke, Oscar, Henry, Billy, Jake, Dan,
 Joe, Nick, Peter, Paul, Mark, Bob, Fred, George, Harry, Ian, Kevin, Liam, Mike, Ned, Owen, Pete,
 Ralph, Simon, Ted, Victor, Will, Zack, Alex, Arthur, Bruno, Carlos, David, Eric, Felix, Gus, Hugo,
 Ivan, Jonas, Karl, Lars, Milo, Nils, Otto, Pablo, Ravi, Rohan, Stan, Toby, Umar, Vik, Walt, Yusuf,
 Omar, Amir, Kenji, Taro, Diego, Mateo, Luis, Rico, Emil, Anton, Edgar, Frank, Glen, Hank, Jasper,
 Kit, Lewis, Miles, Nathan, Philip, Roger, Seth, Theo, Wade, Andy, Charlie, Danny, Eddie, Robin
she-animal: Pip, Dot, Honey, Clover, Maple, Misty, Pearl, Ginger, Cocoa, Bonnie, Cherry, Willow,
 Fern, Lulu, Mimi, Nutmeg, Peaches, Pixie, Rosie, Snowy, Sunny, Tilly, Velvet, Winnie, Bluebell,
 Acorn, Buttons, Candy, Dusty, Goldie, Juniper, Kiki, Luna, Minnie, Nibbles, Petal, Sugar, Twinkle
he-animal: Biscuit, Bumble, Chip, Digger, Fuzzy, Grumble, Hopper, Jumper, Rusty, Scout, Shadow,
 Smoky, Spike, Spot, Tiny, Waffles, Whiskers, Ziggy, Bandit, Barney, Bolt, Bramble, Chester,
 Cricket, Dash, Ernie, Flip, Gizmo, Huey, Jasper, Moss, Pepper, Pickle, Pogo, Rocky, Snuffles,
 Thistle, Tumble
she-elder: mom, mother, grandma, aunt, big sister, mom, grandmother
he-elder: dad, father, grandpa, uncle, big brother, dad, grandfather
species: rabbit, mouse, squirrel, fox, bear, hedgehog, kitten, puppy, badger, otter, mole, raccoon,
 beaver, piglet, lamb, frog, duckling, owl, pony, monkey, elephant, turtle, deer, hamster, panda,
 koala, chipmunk, goat, skunk, weasel, goose, calf, bunny, cub, gecko, lizard, penguin, tiger cub,
 zebra, giraffe, hippo, crow, robin, toad, bat, seal, moose, sheep, donkey
size: little, small, tiny, big, little
cozy: cozy, old, lovely, quiet, wooden, stone, pretty, snug, crooked, sunny, tidy, warm
coat: brown, gray, white, black, golden, spotted, fluffy, furry, round, plump, silver, reddish,
 striped, fuzzy, soft, skinny, cream, dark brown, shaggy, sleek, chubby, shiny, tiny-eared,
 long-eared, small-footed, speckled, dotted, curly, honey-colored, big-eyed
trait: kind, cheerful, curious, gentle, clever, happy, playful, lively, friendly, quiet, brave,
 polite, thoughtful, sweet, funny, busy, careful, patient, helpful, honest, dreamy, bright, jolly,
 eager, shy, loving, silly, merry, adventurous, energetic, imaginative, sleepy, calm, good, smart,
 wild, noisy, stubborn, proud, messy, hopeful, tidy, daring, modest, giggly, grumpy, bold, wise,
 sunny, warm-hearted, restless, chatty, respectful, generous, clumsy, fearless, sensible, humble,
 cautious, joyful, bouncy, tender, hardworking, absent-minded, mischievous, trusting, graceful,
 inventive, talkative, truthful, fair, mild, forgetful, spirited, dependable, peaceful, zippy, keen
kin: mom, dad, grandma, grandpa, aunt, uncle, sister, brother
helper: baker, farmer, gardener, fisherman, mailman, carpenter, painter, shopkeeper, shepherd,
 doctor, teacher, librarian, captain, cook, tailor, neighbor, woodcutter, beekeeper, miller, potter,
 grocer, nurse, farmhand, clockmaker, weaver, blacksmith, ferryman, singer, firefighter, bus driver,
 toymaker, innkeeper, milkman, postman, florist, zookeeper, candle maker, shoemaker, juggler,
 musician, barber, sailor, ranger, lighthouse keeper, cheese maker, plumber, mechanic, pilot,
 dentist, coach
"""

THINGS = """
color: red, blue, green, yellow, purple, orange, pink, white, brown, golden, silver, black, gray,
 dark blue, light green, sky blue, pale pink, bright red, cream, turquoise, lilac, rosy, scarlet,
 lemon yellow, dark green, copper, violet, navy, cherry red, mint green
adj-thing: shiny, soft, tiny, lovely, special, smooth, wooden, bright, pretty, striped, heavy,
 round, square, dusty, clean, sparkling, crooked, handmade, plain, painted, magic, fancy, thin,
 thick, flat, funny, polished, rusty, wonderful, neat, strange, cracked, broken, simple, glittering,
 tall, wide, faded, spotted, fuzzy, forgotten, precious, curious
toy: ball, kite, doll, teddy bear, toy car, toy boat, toy train, drum, yo-yo, top, puppet, toy
 robot, truck, jump rope, whistle, toy plane, rag doll, toy horse, toy duck, marble, balloon, toy
 dinosaur, toy rocket, music box, tambourine, flute, stuffed lion, toy sheep, toy castle, magnet,
 toy bear, toy truck, toy tractor, toy mouse, toy fish, toy giraffe, toy owl, toy submarine, toy
 bus, rubber duck, rubber ball, spinning top, tin soldier, paper boat, toy crown, tin whistle,
 stuffed rabbit, stuffed penguin, toy guitar, bouncy ball, hula hoop, beanbag, toy telescope, toy
 fire engine, picture puzzle, water pistol, glider, pinwheel, toy dragon, toy unicorn
keepsake: ring, scarf, hat, button, coin, ribbon, mitten, book, shell, key, locket, feather, bell,
 necklace, bracelet, pencil, notebook, badge, glove, purse, comb, spoon, stone, whistle, medal,
 brooch, pin, card, lantern, compass, belt, fan, candle, mug, pebble, acorn, pine cone, dice,
 thimble, whisk, brush, watch, sock, sandal, slipper, umbrella, bottle, chain, chalk box, diary,
 postcard, stamp, ticket, bead, bow, buckle, cork, crown, crystal, flag, fork, hook, horseshoe,
 kettle, ladle, lens, lid, map, mask, nail, paintbrush, pan, pillow, plum stone, pouch, ruler,
 seashell, spool, statue, tassel, teacup, tile, tin box, wheel, wand
fragile: vase, cup, plate, lamp, bowl, mirror, teapot, jar, clock, picture frame, glass, candle
 holder, pitcher, flower pot, window, snow globe, bottle, sugar bowl, glass bird, china doll, jug,
 dish, glass ball, eggcup, tray, statue, lantern, soup bowl, butter dish
mendable: kite, chair, wagon, swing, doll, toy train, music box, birdhouse, basket, toy boat, drum,
 umbrella, bench, little table, ladder, sled, fence, wheelbarrow, puppet, rocking horse, toy wagon,
 scooter, toy castle, stool, toy plane, lantern, rake, water wheel, flute, doll house, toy ship,
 trumpet, little cart, puppet stage
mendwith: some glue and a piece of string, a hammer and two nails, a strip of strong tape, a needle
 and thread, some wire and a drop of glue, a new piece of wood, a bit of rope, a patch and some
 paste
fruit: apple, pear, plum, peach, banana, orange, fig, strawberry, grape, melon, lemon, apricot,
 berry, kiwi, mango, lime, cherry, raspberry, nectarine, tomato, blueberry, coconut
treat: cookie, muffin, pancake, sandwich, bun, cupcake, carrot, nut, candy, biscuit, cracker, roll,
 walnut, tart, waffle, dumpling, pretzel, doughnut, croissant, bagel, brownie, gumdrop, lollipop,
 peanut, raisin, rice ball, jam tart, honey cake, gingerbread man, caramel, chestnut, radish,
 pickle, meatball, toffee, macaroon, sugar cube, corn cake
food: soup, bread and butter, cheese, pie, noodles, rice, porridge, toast with jam, honey, salad,
 stew, beans, corn, potatoes, eggs, mushrooms, peas, oatmeal, pudding, popcorn, tomato soup, warm
 bread, baked apples, pancakes with syrup, tomato salad, apple pie, fried eggs, chicken soup, potato
 soup, a big salad, cheese sandwiches, spaghetti, fish cakes, pumpkin bread, rice with beans,
 cucumber sandwiches, roasted carrots, mashed potatoes, berry jam on toast, plum cake, cold melon,
 warm rolls, corn bread, onion soup, vegetable stew, buttered noodles, cherry pie, baked beans, nut
 bread, apple sauce, warm biscuits, carrot soup
drink: [cold|warm] milk, <fruit> juice, [hot|sweet] cocoa, [mint|sweet|hot] tea, fresh water,
 [cold|sweet] lemonade
bake: cake, pie, tart, cake, pie, bread, pudding, roll, strudel
flavor: apple, berry, honey, lemon, carrot, cherry, pumpkin, nut, banana, cinnamon, blueberry, plum,
 orange, peach, pear, raspberry, ginger, chocolate, vanilla, coconut, fig, apricot, walnut, caramel,
 mint, melon
plant: sunflower, rose, tulip, tomato plant, pumpkin, daisy, apple tree, bean plant, lily, cherry
 tree, strawberry plant, poppy, pea plant, lemon tree, violet, marigold, corn plant
tree: oak, maple, birch, pine tree, willow, apple tree, elm, fir, chestnut tree, cherry tree, ash
 tree, poplar, cedar, pear tree, plum tree, walnut tree, linden, hazel bush, spruce, beech, peach
 tree, fig tree, elder bush, palm tree
flower: daisies, tulips, roses, poppies, violets, lilies, buttercups, bluebells, clover, dandelions,
 snowdrops, pansies, sunflowers, lavender, marigolds, primroses, orchids, irises, cornflowers,
 foxgloves, petunias, peonies, jasmine, heather
bird: robin, sparrow, blackbird, crow, dove, swallow, woodpecker, finch, cuckoo, magpie, lark,
 starling, wren, goldfinch, thrush, nightingale, jay, pigeon, seagull, heron, stork, raven,
 hummingbird, bluebird, quail, kingfisher, canary, swan, goose, warbler, hawk, pelican
bug: butterfly, bee, ladybug, beetle, dragonfly, grasshopper, ant, snail, caterpillar, moth, spider,
 firefly, cricket, bumblebee, inchworm, mosquito, wasp, centipede, cicada, mayfly, honeybee,
 earthworm, water strider, stick insect, slug
creature: bird, kitten, squirrel, baby rabbit, puppy, duckling, hedgehog, lamb, baby owl, mouse,
 turtle, baby goat, chick, fawn, fox cub, baby squirrel, piglet, bear cub, tree frog, gosling,
 lizard, mole, calf, foal, raccoon, kid goat, baby otter, young crow, beaver, hamster, sparrow,
 salamander, pony, toad, weasel, rabbit, chipmunk, baby hedgehog
pet: dog, cat, kitten, puppy, old dog, black cat, parrot, gray cat, little dog, rabbit
petfood: bowl of milk, handful of seeds, piece of bread, juicy leaf, bit of cheese, slice of apple,
 bowl of warm porridge, piece of <fruit>, warm <treat>, few crumbs, spoon of honey, bowl of <fruit>
 mash, handful of oats, bit of <treat>, small <fruit>, crunchy carrot, dish of cold water and some
 bread
treasure: coins, shells, marbles, gold buttons, glass beads, old letters, shiny stones, silver
 spoons, silver coins, red rubies, tiny bells, <color> beads, <color> feathers, painted eggs, old
 stamps, toy soldiers, chocolate coins, silver rings, <color> marbles, <color> stones
build: tower, house, fort, boat, bridge, castle, raft, cart, treehouse, tent, wall, swing, slide,
 windmill, lookout, birdhouse, see-saw, dam, doghouse, little stage, playhouse, wagon, kite, ship,
 shelter, tunnel, rabbit house, lighthouse
material: sticks, blocks, stones, logs, planks, cardboard boxes, branches, old boards, crates,
 reeds, poles, bricks, ropes, pieces of cloth, pine cones, flat stones, tin cans, leaves, boards,
 bamboo sticks, old crates, barrels
egg: egg
art: card, picture, drawing
time: time
berry: berry, nut, plum, cherry, fig, blackberry
bag: basket, bag, sack
purse: purse, wallet, leather bag, silk bag
visitor: kitten, mouse, baby owl, hedgehog, turtle, chick, lost puppy, little bat, young squirrel
dish: porridge, fish soup, spinach, pumpkin soup, cabbage, mushroom stew, onion pie, beet salad,
 rice pudding, carrot soup, bean stew, cauliflower, broccoli
berryit: it
coinit: it
hat: hat, cap, scarf, straw hat, woolly hat
rain: raincoat, boots, rain hat
snowname: Mister Frost, Button, Snowflake, Carrot Top, Captain Cold, Old Whitey, Frosty, Shiver,
 Lady Snow, Big Belly, Icicle, Pebble
coin: coin
crest: Red, Blue, Green, Golden, Silver, Black, White, Merry, Mighty, Flying, Happy, Brave
ten: ten, twelve, fifteen, twenty
dark: dark cellar, dark attic, old barn, deep cave, long tunnel, dark closet, gloomy shed, empty
 house, dark hallway, hollow tree, tall corn, foggy field
dry: scarf, towel, blanket, sweater, coat, jacket
ride: bike, scooter, skateboard, tricycle, bicycle
rideplace: park, playground, yard, schoolyard, village square, big lawn, parking lot
buildwith: a hammer and a box of nails, a long rope, a sharp saw, some wooden pegs, two strong
 beams, a bucket of wet clay, a ball of thick string, a heavy hammer, a level and some screws
instrument: drum, flute, violin, guitar, trumpet, piano, harp, bell, horn, banjo, accordion, cello,
 recorder, tuba, ukulele, xylophone, clarinet, mandolin, whistle, organ, saxophone, tambourine,
 triangle
game: hide-and-seek, tag, catch, leapfrog, hopscotch, a guessing game, pirates, kings and queens,
 bakers, explorers, a jumping game, a counting game, a word game, a card game, marbles, hide the
 <keepsake>, follow the leader, treasure hunters, doctors, knights and dragons, circus, <creature+>
 and <creature+>, a clapping game, sailors, shopkeepers, a game with <fruit+>, freeze tag, ring
 toss, blind man's buff, school, detectives, a running game
"""

SCENES = """
place: park, garden, forest, beach, meadow, farm, playground, pond, orchard, yard, hill, river,
 market, field, lake, zoo, castle, valley, harbor, marsh
at park: in
at garden: in
at forest: in
at beach: at
at meadow: in
at farm: at
at playground: at
at pond: at
at orchard: in
at yard: in
at hill: on
at river: at
at market: at
at field: in
at lake: at
at zoo: at
at castle: at
at valley: in
at harbor: at
at marsh: in
spot park: under a bench, behind the slide, near the fountain, by the tall gate, in the sandbox,
 behind a [big|thick|round] bush, near the swings, beside the path
spot garden: under the [tomato|bean] plants, behind the shed, beside the gate, in the [long|wet]
 grass, near the [rose|berry] bushes, next to the watering can, under the [wooden|old] bench, by the
 wall
spot forest: under a [big|wide] fern, behind a fallen log, beside a <tree>, in a pile of leaves,
 near a [mossy|gray] rock, in a hollow stump, under the [prickly|low] bushes, by the little path
spot beach: under a [wet|flat] rock, behind a sand dune, near the water, beside a [broken|blue]
 boat, in a tide pool, under a striped umbrella, among the shells, next to a pile of seaweed
spot meadow: among the <flower>, behind a [big|gray] stone, beside the stream, under a lone <tree>,
 in the tall grass, near the fence, by a molehill, next to a haystack
spot farm: behind the barn, under the [red|old] tractor, in the hay, beside the chicken house, near
 the well, by the pig pen, in the stable, under the [water|feed] trough
spot playground: under the slide, behind the swings, near the seesaw, in the sandbox, beside the
 climbing frame, by the gate, under a bench, next to the merry-go-round
spot pond: among the reeds, under the [little|wooden] bridge, behind a [mossy|big] rock, beside the
 water, near the lily pads, by a <tree>, in the mud, next to a duck's nest
spot orchard: under the [first|oldest|tallest] tree, behind a [full|empty] basket, beside the
 ladder, in the wet grass, near the wall, by the wagon, under some leaves, next to a stack of crates
spot yard: under the porch, behind the trash can, beside the doghouse, near the fence, in the flower
 bed, by the back steps, under the wheelbarrow, next to the woodpile
spot hill: behind a [round|gray] rock, under a [crooked|lone] <tree>, beside the path, in the tall
 grass, near the top, by the old wall, among the <flower>, next to a thorn bush
spot river: under the bridge, behind a [smooth|big] rock, among the reeds, beside the dock, near the
 waterfall, by an old boat, in the sand, next to a <tree>
spot market: under a [fruit|fish] stand, behind the flower seller, beside a cart, near the fountain,
 by the bakery, in an empty crate, under a table, next to a [big|tall] barrel
spot lake: under the [long|old] dock, behind a canoe, among the water lilies, beside a [flat|gray]
 rock, in the shallow water, near the boathouse, under a <tree>, by a pile of driftwood
spot zoo: behind the elephant house, near the ticket booth, under a bench, beside the monkey cage,
 by the penguin pool, next to a map of the zoo, in the petting pen, under a <tree>
spot castle: behind a [stone|broken] wall, under the [long|spiral] stairs, in the tower, beside the
 gate, near the well, in the kitchen garden, by an old cannon, next to a suit of armor
spot valley: beside the stream, under a [steep|mossy] cliff, in the tall ferns, behind a [huge|flat]
 rock, near a goat path, by a little shrine, among the <flower>, next to a <tree>
spot harbor: behind the fish crates, under a fishing net, beside a [blue|little] boat, near the
 lighthouse, by the pier, in an empty barrel, next to an anchor, on a coil of rope
spot marsh: among the reeds, on a [mossy|dry] log, under the wooden walkway, behind a [thick|green]
 bush, near a heron's nest, in the mud, beside a [still|dark] pool, next to a <tree>
spot field: behind the scarecrow, in the tall corn, beside the ditch, near the fence, under a
 [lone|big] <tree>, by the dirt road, among the <flower>, next to a hay bale
indoors: under the bed, behind the couch, in the closet, behind the bookcase, beside the stove,
 under the kitchen table, in the laundry basket, behind the curtains, in the toy box, near the front
 door
village: village, town, valley, village, seaside town, mountain village
storm: {season} night, {weekday} night, night in {season}, night
near: a [quiet|deep|wide|blue] [lake|river|stream|pond], a [green|tall|steep|round] hill, the
 [dark|green|old|big] [woods|forest], the [blue|wide] sea, a [busy|big] [market|mill|road], a
 [stone|wooden] bridge, a [sunny|flowery] meadow, a field of <flower>, an old
 [church|windmill|barn], a [gray|round|tall] [tower|lighthouse|rock], a [little|hidden|clear]
 [spring|waterfall|creek], a row of <tree+>, the [railway|train station|old school|town hall|post
 office], a [sandy|quiet|windy] [bay|beach|shore], a [apple|plum|pear|cherry] orchard, a
 [vegetable|rose|herb] garden, the edge of [town|the woods|the marsh|the desert], a
 [busy|narrow|winding] [street|path|lane], the foot of a [mountain|cliff]
fair: sunny, warm, bright, lovely, clear, fine, beautiful, breezy, mild, cool, quiet, windy, golden,
 crisp, hazy, peaceful, cloudless, pleasant, foggy, frosty, sleepy, busy, glorious, chilly, sweet,
 dewy, calm, misty, perfect
season: spring, summer, autumn
part: morning, afternoon, evening, morning, afternoon
weekday: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday
sound: a [soft|strange|funny|loud] [noise|sound|squeak|rustle|thump], a [tiny|sad|quiet]
 [cry|voice], a [gentle|slow] tapping, a [sharp|loud] crack, a [low|long] hum, a [tiny|faint|sudden]
 [squeal|whimper|chirp|splash|sneeze], a [low|deep|sleepy] [growl|groan|grumble], a [quick|light]
 [scratching|pattering], a [merry|sad|soft] [song|whistle|jingle], somebody
 [snoring|giggling|humming|sniffing]
smell: fresh bread, wet grass, sweet <flower>, warm <flavor> pie, pine needles, ripe fruit, wood
 smoke, cut hay, roses, hot <treat+>, ripe <fruit+>, rain, salt and sea, honey, fresh paint, clean
 laundry, moss, <drink>, damp earth, toast
hobby: draw [pictures|animals|maps], climb trees, play <game>, sing [songs|loudly], read
 [books|stories], dance, collect [<color> stones|feathers|leaves|shells], paint, run [fast|around],
 bake, dig holes, look at the [stars|clouds|moon], splash in puddles, tell [jokes|stories|riddles],
 build things, swim, pick <flower>, play the <instrument>, chase <bug+>, make [hats|crowns] out of
 leaves, watch the <bird+>, ask questions, help {his} {E}, fly kites, jump over [puddles|logs], roll
 down hills, catch [tadpoles|falling leaves|raindrops], balance on [walls|logs|one foot], plant
 [seeds|<flower>], listen to [the rain|the wind|old songs|the <bird+>], feed the <bird+>, sort
 <keepsake+>, count <bug+>, build [sand castles|towers|little houses|snow forts], wear [funny
 hats|big boots], cook <food>, write [letters|poems|little notes], learn new words, hunt for
 <keepsake+>, invent [games|songs|machines], visit the <helper>, hum [tunes|softly], skip stones,
 [juggle|play with] <fruit+>, look for [four-leaf clovers|animal tracks|treasure], draw <creature+>,
 eat <treat+>, make up [stories|rhymes] about <creature+>
walked: walked, ran, went, hurried, skipped, wandered, strolled, raced, marched
found: found, saw, spotted, noticed, discovered
looked: looked, searched, hunted, checked, peeked
glad: happy, glad, pleased, delighted, cheerful, joyful, excited, thankful, overjoyed, merry,
 thrilled, relieved, satisfied, content, grateful, lighthearted, hopeful
proud: proud, happy, pleased, delighted, warm inside, very big, strong
sad: sad, upset, unhappy, gloomy, miserable, lonely, heartbroken, downcast, hurt, disappointed,
 troubled, tearful
scared: scared, afraid, frightened, nervous, worried, anxious
softly: softly, quietly, gently, kindly, slowly, calmly, in a [soft|low|gentle|kind] voice, with a
 [smile|nod|little smile|grin|warm smile], after a moment, in a warm voice, with a wink, with a
 laugh, wisely, after some thought, in a cheerful voice, patiently, with a chuckle, with kind eyes,
 with a sigh and a smile, warmly
brightly: happily, brightly, cheerfully, loudly, with a [big|wide] [smile|grin], with a laugh, while
 jumping up and down, proudly, at once, in an excited voice, merrily, gladly, eagerly, out of
 breath, with shining eyes, with glee, while dancing in a circle, in a loud voice, with both arms in
 the air, with a grin from ear to ear, in a singing voice
sadly: sadly, quietly, in a [small|shaky|tiny] voice, softly, while looking down, with a sigh, with
 wet eyes, in a trembling voice, with a lump in the throat, slowly, in a whisper, in a tired voice,
 with a sniff, in a hoarse voice, gloomily
"""

SYNONYMS = """
did not: did not, didn't
could not: could not, couldn't
do not: do not, don't
Do not: Do not, Don't
does not: does not, doesn't
would not: would not, wouldn't
was not: was not, wasn't
can not: cannot, can't
I am: I am, I'm
I will: I will, I'll
It is: It is, It's
it is: it is, it's
You are: You are, You're
We are: We are, We're
Let us: Let us, Let's
began to: began to, started to
ran to: ran to, rushed to, hurried to, dashed to, raced to
went to the: went to the, walked to the, set off for the, headed for the, made for the
looked at: looked at, stared at, gazed at, peered at
smiled: smiled, grinned, beamed
laughed: laughed, giggled, chuckled
big: big, large, huge
small: small, little, tiny
Then: Then, Then, Next, Soon
But: But, But, But, Yet
But then: But then, But then, Then
Suddenly: Suddenly, All of a sudden, All at once, Just then
At last: At last, Finally, In the end
a lot of: a lot of, lots of, plenty of
everybody: everybody, everyone
Everybody: Everybody, Everyone
nobody: nobody, no one
Nobody: Nobody, No one
somebody: somebody, someone
wanted to: wanted to, wanted to, wished to, longed to
sat down: sat down, settled down, took a seat
picked up: picked up, lifted
shouted: shouted, yelled, called out
whispered: whispered, murmured, breathed
The next day: The next day, The following day, A day later, The day after, Next day
the next day: the next day, the following day, the day after
every day: every day, each day, day after day
Every day: Every day, Each day, Day after day
I think: I think, I believe, I guess, I am sure
Maybe: Maybe, Perhaps
maybe: maybe, perhaps
Thank you: Thank you, Thanks, Thank you so much, Many thanks
Oh no: Oh no, Oh dear, Oh my
for a long time: for a long time, for a long while, for ages
After a while: After a while, After some time, A little later, In a while
because: because, since
beside: beside, next to, by
jumped up: jumped up, leaped up, sprang up
came back: came back, returned
hugged: hugged, embraced
beautiful: beautiful, lovely, pretty
Of course: Of course, Sure, Certainly, Gladly
wrapped: wrapped, rolled, bundled
carried it to: carried it to, brought it to, took it to
looked for: looked for, searched for
was gone: was gone, was gone, had vanished, had disappeared
came running: came running, ran up, came hurrying
knocked at: knocked at, tapped at, banged on
on the way home: on the way home, on the way back, going home
On the way home: On the way home, On the way back, Going home
could not believe it: could not believe it, could hardly believe it, was speechless, stood there
 with an open mouth
gave up: gave up, lost heart, stopped trying
take care of: take care of, look after, watch over
threw: threw, tossed
full of: full of, filled with
I am sorry: I am sorry, I'm sorry, I am so sorry, I'm really sorry
I promise: I promise, I give my word, You have my word
Look at me: Look at me, See me now, Watch me
was crying: was crying, was in tears, was weeping
Poof: Poof, Poof, Whoosh, Zing, Pling
Crash: Crash, Bang, Smash, Clatter
Clunk: Clunk, Thunk, Clonk, Tock
Click: Click, Clack, Snick
Just then: Just then, At that moment, Right then
at the door: at the door, at the front door, outside the door
Every week: Every week, Each week, Week by week
every week: every week, each week
carefully: carefully, with care
went back: went back, returned, walked back
in the morning: in the morning, at sunrise, the next morning
In the morning: In the morning, At sunrise, When the sun rose
anybody: anybody, anyone
rained and rained: rained and rained, rained all day, poured
again and again: again and again, over and over, time after time
all day: all day, the whole day, from morning to night
came along: came along, came by, walked up, turned up
"""

IRREGULAR_PLURALS = {
    "was": "were",
    "is": "are",
    "it": "them",
    "mouse": "mice",
    "goose": "geese",
    "man": "men",
    "calf": "calves",
    "leaf": "leaves",
    "tomato": "tomatoes",
    "dice": "dice",
    "deer": "deer",
    "sheep": "sheep",
    "moose": "moose",
}
